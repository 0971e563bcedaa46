/** Runs a decoder before and after rewriting, on the same left-padded sequences, and tells the largest difference of their logits. */
import * as ort from 'onnxruntime-node';
import type { Model } from '../../src/onnx/index.ts';
import { type RewriteOptions, type RewriteReport, rewrite } from '../../src/rewrite.ts';
import { type DecoderOptions, randomNumbers, tinyDecoder } from './decoders.ts';
import { type DealOptions, PlainCache } from './plain-cache.ts';
import { ALL_LOGITS, factsOf, floats, numbers, openSession, positionIds, runPlain } from './run.ts';

export interface Trial {
  readonly decoder?: DecoderOptions;
  readonly rewrite?: RewriteOptions;
  readonly deal?: Partial<DealOptions>;
  /** Tokens of each sequence before the first single step; shorter ones are padded on the left. */
  readonly lengths?: readonly number[];
  /** New tokens of each prefill step; must sum to the longest length. */
  readonly chunks?: readonly number[];
  readonly numSteps?: number;
  readonly firstPosition?: number;
  /** Whether ONNX Runtime may optimise the rewritten graph, as it does in use. */
  readonly optimised?: boolean;
  readonly seed?: number;
}

export interface Outcome {
  /** Largest difference over all real tokens of all sequences. */
  readonly maxDifference: number;
  /** Largest logit, for scale. */
  readonly maxLogit: number;
  readonly report: RewriteReport;
}

/** A tiny decoder before and after. */
export function compare(trial: Trial): Promise<Outcome> {
  return compareModel(tinyDecoder(trial.decoder), trial);
}

export async function compareModel(model: Model, trial: Omit<Trial, 'decoder'>): Promise<Outcome> {
  const { lengths = [12], chunks = [Math.max(...lengths)], numSteps = 5, firstPosition = 0 } = trial;
  const random = randomNumbers(trial.seed ?? 7);
  const packed = rewrite({ model, path: 'original.onnx' }, trial.rewrite);
  if (packed.report.refused.length) throw new Error(JSON.stringify(packed.report.refused));
  const facts = factsOf(model);
  const { embed, vocabulary } = facts;
  const [before, after] = await Promise.all([openSession(model), openSession(packed.model.model, trial.optimised)]);

  const longest = Math.max(...lengths);
  const numSlots = longest + numSteps;
  const steps = [...chunks, ...Array<number>(numSteps).fill(1)];
  const batch = lengths.length;
  const embeds = Float32Array.from({ length: batch * numSlots * embed }, random); // padding is noise, not zeros
  const rowOf = (b: number, from: number, to: number): Float32Array =>
    embeds.slice((b * numSlots + from) * embed, (b * numSlots + to) * embed);

  // The truth for a row is that row alone and unpadded: ONNX Runtime's own attention does not take the batches we do.
  const truth: Float32Array[] = [];
  for (const [b, length] of lengths.entries()) {
    const pad = longest - length;
    const ownChunks: number[] = [];
    let end = 0;
    for (const step of steps) {
      const kept = Math.min(step, (end += step) - pad);
      if (kept > 0) ownChunks.push(kept);
    }
    truth.push(await runPlain(before, facts, rowOf(b, pad, numSlots), ownChunks, firstPosition));
  }

  const { codes, basis } = trial.rewrite ?? {};
  const cache = new PlainCache(packed.shape, batch, { codes, basis, rotary: packed.report.rotary, ...trial.deal }, random);
  let maxDifference = 0;
  let maxLogit = 0;
  let done = 0;
  for (const step of steps) {
    const slots = done + step;
    const isReal = (b: number, slot: number): boolean => slot >= longest - (lengths[b] as number);
    const flat = <T>(from: number, make: (b: number, slot: number) => T): T[] =>
      lengths.flatMap((_, b) => Array.from({ length: slots - from }, (_, i) => make(b, from + i)));
    const newEmbeds = new Float32Array(batch * step * embed);
    for (let b = 0; b < batch; b++) newEmbeds.set(rowOf(b, done, slots), b * step * embed);
    const feeds: Record<string, ort.Tensor> = {
      ...cache.feeds(),
      attention_mask: new ort.Tensor('int64', BigInt64Array.from(flat(0, (b, slot) => (isReal(b, slot) ? 1n : 0n))), [batch, slots]),
      inputs_embeds: floats(facts.embedType, newEmbeds, [batch, step, embed]),
    };
    if (after.inputNames.includes('num_logits_to_keep')) feeds.num_logits_to_keep = ALL_LOGITS;
    if (after.inputNames.includes('position_ids')) {
      const position = (b: number, slot: number): number => Math.max(0, firstPosition + slot - (longest - (lengths[b] as number)));
      feeds.position_ids = positionIds(after, flat(done, position), [batch, step]);
    }
    const results = await after.run(feeds);
    cache.append(results, done);
    const logits = numbers(results.logits);
    for (let b = 0; b < batch; b++) {
      const pad = longest - (lengths[b] as number);
      for (let n = 0; n < step; n++) {
        for (let v = 0; v < vocabulary; v++) {
          const seen = logits[(b * step + n) * vocabulary + v] as number;
          if (!Number.isFinite(seen)) return { maxDifference: Number.POSITIVE_INFINITY, maxLogit, report: packed.report };
          if (!isReal(b, done + n)) continue;
          const wanted = truth[b]?.[(done + n - pad) * vocabulary + v] as number;
          maxDifference = Math.max(maxDifference, Math.abs(seen - wanted));
          maxLogit = Math.max(maxLogit, Math.abs(wanted));
        }
      }
    }
    done = slots;
  }
  await Promise.all([before.release(), after.release()]);
  return { maxDifference, maxLogit, report: packed.report };
}

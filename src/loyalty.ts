/** Loyalty: how far a packed cache keeps the dense model's answers; `algorithm.md`, section 6. */
import { assert } from './errors.ts';

/** Agreement of two models over the same tokens. */
export interface Agreement {
  /** Share of tokens at which both find the same most likely token, teacher-forced. */
  readonly top1: number;
  /** Mean Kullback-Leibler divergence of the packed from the dense distribution, in nats. */
  readonly kl: number;
  readonly tokens: number;
}

/** Compares logits [N, V] of the dense and the packed model, token by token. */
export function agreement(dense: Float32Array, packed: Float32Array, vocab: number): Agreement {
  assert(
    dense.length === packed.length && dense.length % vocab === 0 && vocab > 0,
    `logits of ${dense.length} and ${packed.length} over ${vocab} tokens`,
  );
  const tokens = dense.length / vocab;
  let same = 0;
  let kl = 0;
  for (let n = 0; n < tokens; n++) {
    const d = dense.subarray(n * vocab, (n + 1) * vocab);
    const p = packed.subarray(n * vocab, (n + 1) * vocab);
    if (argmax(d) === argmax(p)) same++;
    kl += divergence(d, p);
  }
  return { top1: tokens ? same / tokens : 1, kl: tokens ? kl / tokens : 0, tokens };
}

/** Token-weighted mean of several agreements. */
export function meanAgreement(parts: readonly Agreement[]): Agreement {
  const tokens = parts.reduce((sum, part) => sum + part.tokens, 0);
  const mean = (of: 'top1' | 'kl'): number =>
    tokens ? parts.reduce((sum, part) => sum + part[of] * part.tokens, 0) / tokens : of === 'top1' ? 1 : 0;
  return { top1: mean('top1'), kl: mean('kl'), tokens };
}

/** Index of the largest logit; the first one among equals. */
export function argmax(logits: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if ((logits[i] as number) > (logits[best] as number)) best = i;
  return best;
}

/** KL(softmax(dense) || softmax(packed)). */
function divergence(dense: Float32Array, packed: Float32Array): number {
  const logDense = logSoftmax(dense);
  const logPacked = logSoftmax(packed);
  let sum = 0;
  for (let i = 0; i < logDense.length; i++) {
    const log = logDense[i] as number;
    sum += Math.exp(log) * (log - (logPacked[i] as number));
  }
  return Math.max(0, sum); // rounding can take equal distributions just below zero
}

function logSoftmax(logits: Float32Array): Float64Array {
  const max = logits[argmax(logits)] as number;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - max);
  const shift = max + Math.log(sum);
  return Float64Array.from(logits, (logit) => logit - shift);
}

/** Packed caches in the variants that are compared: how the context is cut into spans, the ranks, and what codes are made of. */
import type { PreTrainedModel } from '@huggingface/transformers';
import { ELEMENT_BYTES } from '../../src/cache/footprint.ts';
import { PackedCache } from '../../src/cache.ts';
import type { CompactAt, Ranks } from '../../src/options.ts';
import type { Span } from '../../src/prefill.ts';
import type { BasisType, CodeType, ModelShape, RotaryMode, WindowType } from '../../src/shape.ts';
import type { PackedModel } from '../../src/state.ts';
import { loadPackedTextModel } from '../model.ts';
import { prefill } from '../prefill.ts';
import { denseBytes, denseFlops, type Opponent } from './opponent.ts';

/** Tokens of one image in LLaVA-1.5. */
export const IMAGE_TOKENS = 576;
/** Text before the images, kept as the sink, and after them: 64 dense tokens in all. */
const TEXT_BEFORE = 4;
const TEXT_AFTER = 60;

export interface Variant {
  readonly name: string;
  readonly description: string;
  /** `image`: every image is a segment; `context`: all visual tokens are one; `none`: nothing is packed. */
  readonly span: 'image' | 'context' | 'none';
  readonly rank: Ranks;
  readonly codes: CodeType;
  /** Default float32. */
  readonly basis?: BasisType;
  /** Element type of the dense window. Default float32, as the models hold their caches. */
  readonly window?: WindowType;
  readonly rotary: RotaryMode;
  /** Default *span*, so that at most one image is dense at a time. */
  readonly compactAt?: CompactAt;
}

/** Slots of each span in a context: text, then images, the last one cut to fit, then text. */
export function spansOf(span: Variant['span'], context: number): Span[] {
  const end = context - TEXT_AFTER;
  if (span === 'none' || end <= TEXT_BEFORE) return [];
  if (span === 'context') return [{ start: TEXT_BEFORE, end }];
  const spans: Span[] = [];
  for (let start = TEXT_BEFORE; start < end; start += IMAGE_TOKENS) spans.push({ start, end: Math.min(end, start + IMAGE_TOKENS) });
  return spans;
}

/** Ranks as they come out: a span of few tokens or a narrow layer has fewer columns than asked for. */
function ranksIn(shape: ModelShape, l: number, spans: readonly Span[], rank: Ranks): { keys: number; values: number } {
  const layer = shape.layers[l];
  const most = Math.min((layer?.numKvHeads ?? 0) * (layer?.headDim ?? 0), Math.max(0, ...spans.map(({ start, end }) => end - start)));
  return { keys: Math.min(rank.keys, most), values: Math.min(rank.values, most) };
}

export function packedOpponent(variant: Variant): Opponent {
  const { name, description, rank, codes, basis = 'float32', window = 'float32', rotary, compactAt = 'span' } = variant;
  return {
    name,
    description,
    cost(shape, context) {
      const spans = spansOf(variant.span, context);
      const windowTokens = context - spans.reduce((sum, { start, end }) => sum + end - start, 0);
      // Segments are as long as the longest; shorter ones are padded, and padding is computed like the rest.
      const segmentTokens = Math.max(0, ...spans.map(({ start, end }) => end - start));
      const tokens = spans.length * segmentTokens;
      let cacheBytes = (denseBytes(shape, windowTokens) * ELEMENT_BYTES[window]) / ELEMENT_BYTES.float32 + 8 * (windowTokens + 2 * tokens);
      let flops = denseFlops(shape, windowTokens);
      for (const [l, { numHeads, numKvHeads, headDim }] of shape.layers.entries()) {
        const { keys, values } = ranksIn(shape, l, spans, rank);
        const width = numKvHeads * headDim;
        cacheBytes += ELEMENT_BYTES[codes] * tokens * (keys + values) + ELEMENT_BYTES[basis] * spans.length * width * (keys + values);
        const latent = (columns: number): number => 2 * numHeads * columns * (tokens + spans.length * headDim);
        flops += latent(values) + (rotary === 'post-rope' ? latent(keys) : 2 * tokens * (keys * width + numHeads * headDim));
      }
      return { cacheBytes, flops };
    },
    neededBytes: (shape, context) =>
      // A window that grows by a quarter holds old and new buffers for a moment; one span waits dense (and unrotated) until it is whole.
      variant.span === 'image' && compactAt === 'span'
        ? 0.6 * denseBytes(shape, context) + 3 * denseBytes(shape, IMAGE_TOKENS)
        : 3.2 * denseBytes(shape, context),
    async open(task) {
      const model = await loadPackedTextModel(task.folder, {
        dtype: task.dtype,
        threads: task.threads,
        profile: task.profile,
        packing: { rank, codes, basis, window, rotary, compactAt },
      });
      const cache = new PackedCache(model as PreTrainedModel & PackedModel);
      const ids = await prefill(model, cache, spansOf(variant.span, task.context), task.context);
      return { model, cache, ids, cacheBytes: cache.bytes, compactMs: cache.report().compactMs };
    },
  };
}

/** Pictures whose size decides how many tokens they take (Qwen2-VL): each has a grid of patches, and its tokens a place in time, height and width. */
import { cat, type PreTrainedModel, Tensor } from '@huggingface/transformers';
import { AttentionPackError } from '../errors.ts';
import { type Grid, imageSpans, type Span } from '../prefill.ts';
import type { CacheStore } from '../store.ts';

/** Grids and patches as a processor gives them. */
export interface GridInputs {
  /** [images, 3] int64: time, height and width in patches. */
  readonly image_grid_thw?: Tensor | undefined;
  /** [patches, numbers in a patch]; what follows belongs to the grids in order. */
  readonly pixel_values?: Tensor | undefined;
}

export interface GriddedImages {
  /** Spans of the new images, per sequence, each with its grid in tokens. */
  readonly spans: readonly (readonly Span[])[];
  /** Patches and grids to encode; undefined if there are none. */
  readonly pixels: Tensor | undefined;
  readonly grids: Tensor | undefined;
}

/** Patches side by side that become one token, of a model whose pictures have grids; undefined for other models. */
export function mergeSizeOf(model: PreTrainedModel): number | undefined {
  const { model_type, vision_config } = model.config as unknown as { model_type?: string; vision_config?: { spatial_merge_size?: number } };
  return GRID_MODELS.some((known) => known === model_type) ? (vision_config?.spatial_merge_size ?? 2) : undefined;
}

/** Models that number tokens as `positions.ts` does. */
export const GRID_MODELS = ['qwen2_vl', 'qwen2_5_vl'] as const;

/**
 * The new images of a turn, whose inputs have the pictures of the whole conversation or only the new ones.
 *
 * @param ids new token ids, [B][N]
 * @throws {AttentionPackError} if pictures and image tokens do not match
 */
export function griddedImages(
  store: Pick<CacheStore, 'numImages' | 'numImageTokens'>,
  ids: readonly (readonly number[])[],
  imageToken: number,
  mergeSize: number,
  { image_grid_thw, pixel_values }: GridInputs,
): GriddedImages {
  const runs = ids.map((row) => imageSpans(row, imageToken));
  const added = sum(runs.flat().map(lengthOf));
  if (!image_grid_thw || !pixel_values) {
    const missing = image_grid_thw ? 'pixel_values' : 'image_grid_thw';
    if (added || pixel_values) {
      throw new AttentionPackError(`the prompt has ${added} new image tokens but no ${missing}; pass the processor's output whole`);
    }
    return { spans: runs, pixels: undefined, grids: undefined };
  }
  const patches = rowsOf(image_grid_thw);
  const grids = inTokens(patches, mergeSize);
  const brought = sum(grids.map(tokensOf));
  const seen = sum(ids.map((_, b) => store.numImageTokens(b)));
  if (brought !== added && brought !== added + seen) {
    const before = seen ? `, behind ${seen} in the cache` : '';
    throw new AttentionPackError(
      `the prompt has ${added} new image tokens${before}, but image_grid_thw makes ${brought}; give the pictures of the new ones${seen ? ', or all,' : ''} and let prompt() write their tokens`,
    );
  }
  const skipped = ids.map((_, b) => (brought === added ? 0 : store.numImages(b)));
  const { spans, taken } = assigned(runs, grids, skipped);
  if (!taken.length) return { spans, pixels: undefined, grids: undefined };
  return { spans, ...pickedInputs(pixel_values, patches, taken) };
}

/** Gives each run of image tokens its grids, in order, after `skipped` of each row. */
function assigned(
  runs: readonly (readonly Span[])[],
  grids: readonly Grid[],
  skipped: readonly number[],
): { spans: Span[][]; taken: number[] } {
  let next = 0;
  const taken: number[] = [];
  const spans = runs.map((row, b) => {
    next += skipped[b] ?? 0;
    return row.flatMap((run) => {
      const inRun: Span[] = [];
      for (let at = run.start; at < run.end; ) {
        const grid = grids[next];
        const end = at + (grid ? tokensOf(grid) : 0);
        if (!grid || end > run.end || end === at) {
          throw new AttentionPackError(
            `${lengthOf(run)} image tokens stand side by side in the prompt, which no pictures of image_grid_thw make in order; let prompt() write them`,
          );
        }
        inRun.push({ start: at, end, grid });
        taken.push(next++);
        at = end;
      }
      return inRun;
    });
  });
  return { spans, taken };
}

/** The patches and grids of some pictures. */
function pickedInputs(
  pixels: Tensor,
  patches: readonly (readonly number[])[],
  taken: readonly number[],
): { pixels: Tensor; grids: Tensor } {
  const grids = new Tensor('int64', BigInt64Array.from(taken.flatMap((i) => (patches[i] ?? []).map(BigInt))), [taken.length, 3]);
  if (taken.length === patches.length) return { pixels, grids };
  let end = 0;
  const ranges = patches.map((grid): [number, number] => [end, (end += product(grid))]);
  const parts = taken.map((i) => pixels.slice(ranges[i] ?? [0, 0]) as Tensor);
  return { pixels: parts.length === 1 ? (parts[0] as Tensor) : cat(parts, 0), grids };
}

/** Spans of a whole conversation's images, per sequence. */
export function conversationSpans(
  ids: readonly (readonly number[])[],
  imageToken: number,
  mergeSize: number,
  image_grid_thw: Tensor | undefined,
): Span[][] {
  const merged = inTokens(image_grid_thw ? rowsOf(image_grid_thw) : [], mergeSize);
  const runs = ids.map((row) => imageSpans(row, imageToken));
  return assigned(runs, merged, []).spans;
}

/** Grids in patches -> in tokens. */
function inTokens(patches: readonly (readonly number[])[], mergeSize: number): Grid[] {
  return patches.map(([t = 0, h = 0, w = 0]) => [t, Math.floor(h / mergeSize), Math.floor(w / mergeSize)]);
}

function rowsOf(tensor: Tensor): number[][] {
  const data = Array.from(tensor.data as BigInt64Array, Number);
  return Array.from({ length: data.length / 3 }, (_, i) => data.slice(3 * i, 3 * i + 3));
}

const lengthOf = ({ start, end }: Span): number => end - start;
const tokensOf = (grid: Grid): number => product(grid);
const product = (factors: readonly number[]): number => factors.reduce((a, b) => a * b, 1);
const sum = (counts: readonly number[]): number => counts.reduce((total, count) => total + count, 0);

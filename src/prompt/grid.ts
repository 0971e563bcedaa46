/**
 * Inputs of a model whose pictures keep their shape, Qwen2-VL: patches of all pictures in one list, beside a grid for each.
 *
 * The processor of transformers.js takes several pictures in one call for frames of one clip, and doubles only a lone picture. So each picture,
 * and each frame of a clip, is read by a call of its own: doubled, one step in time. A clip of F frames is F such steps in one grid.
 */
import { cat, type Processor, type RawImage, Tensor } from '@huggingface/transformers';
import { AttentionPackError, assert, firstLine } from '../errors.ts';
import type { Prompt } from '../prompt.ts';
import { checkPlaceholders, readPictures, tokenize } from './placeholders.ts';

interface GridProcessorConfig {
  readonly image_processor_type?: string;
  readonly merge_size?: number;
}

/** Whether pictures become patches with a grid, time first. */
export function hasGrids(processor: Processor): boolean {
  return /^Qwen2(_5_)?VLImageProcessor/.test(configOf(processor).image_processor_type ?? '');
}

const configOf = (processor: Processor): GridProcessorConfig => (processor.image_processor?.config ?? {}) as GridProcessorConfig;

/** @param groups one picture, or the frames of one clip, for each placeholder */
export async function gridInputs(processor: Processor, text: string, groups: readonly (readonly RawImage[])[]): Promise<Prompt> {
  const placeholder = (processor.constructor as { image_token?: string }).image_token ?? '<|image_pad|>';
  checkPlaceholders(text, placeholder, groups.length);
  if (!groups.length) return tokenize(processor, text);
  const patches: Tensor[] = [];
  const grids: bigint[][] = [];
  for (const group of groups) {
    const read = await readGroup(processor, group);
    patches.push(...read.patches);
    grids.push(read.grid);
  }
  const merged = BigInt((configOf(processor).merge_size ?? 2) ** 2);
  const numTokens = grids.map(([t = 0n, h = 0n, w = 0n]) => Number((t * h * w) / merged));
  const parts = text.split(placeholder);
  const expanded = parts.map((part, i) => part + placeholder.repeat(numTokens[i] ?? 0)).join('');
  return {
    ...tokenize(processor, expanded),
    pixel_values: cat(patches, 0),
    image_grid_thw: new Tensor('int64', BigInt64Array.from(grids.flat()), [grids.length, 3]),
  };
}

/** Patches [n, channels·time·size·size] of each picture, and the grid of all of them together: [frames, height, width]. */
async function readGroup(processor: Processor, group: readonly RawImage[]): Promise<{ patches: Tensor[]; grid: bigint[] }> {
  const patches: Tensor[] = [];
  let first: bigint[] = [];
  for (const [i, image] of group.entries()) {
    const { pixel_values, image_grid_thw } = await readPicture(processor, image);
    const grid = [...(image_grid_thw.data as BigInt64Array)];
    if (i === 0) first = grid;
    else if (grid[1] !== first[1] || grid[2] !== first[2]) {
      throw new AttentionPackError(
        `frame ${i + 1} of a clip is ${grid[1]} x ${grid[2]} patches, frame 1 ${first[1]} x ${first[2]}; give frames of one size`,
      );
    }
    patches.push(pixel_values);
  }
  return { patches, grid: [BigInt(group.length), ...first.slice(1)] };
}

async function readPicture(processor: Processor, image: RawImage): Promise<{ pixel_values: Tensor; image_grid_thw: Tensor }> {
  try {
    const { pixel_values, image_grid_thw } = await readPictures(processor, [image]);
    assert(image_grid_thw, 'the image processor gave no image_grid_thw');
    return { pixel_values, image_grid_thw };
  } catch (cause) {
    if (cause instanceof AttentionPackError) throw cause;
    throw new AttentionPackError(`a picture of ${image.width} x ${image.height} pixels is not read by this model: ${firstLine(cause)}`, {
      cause,
    });
  }
}

/** Where the patches of each frame lie, worked out in the graph from grid_thw: one row a picture or clip, (time, height, width) in patches. */
import { DataType } from '../../onnx/index.ts';
import type { ModelBuilder } from '../builder.ts';

/** Frames as rows of a batch. A slot is a place in [frames, longest]; shorter frames have slots without a patch. */
export interface FrameGrid {
  /** [1]: frames of all pictures and clips. */
  readonly numFrames: string;
  /** [1]: patches of the largest frame. */
  readonly longest: string;
  /** [frames, longest] bool. */
  readonly isPatch: string;
  /** [frames, longest]: the patch in each slot; the frame's last one where there is none. */
  readonly patchOfSlot: string;
  /** [patches]: the flat slot of each patch. */
  readonly slotOfPatch: string;
  /** [2, frames, longest] float32: height and width of each slot's patch in its frame. */
  readonly positions: string;
}

/** @param grid_I3 name of the int64 input; value names below have I for images and clips, F for frames, P for slots of a frame */
export function frameGrid(builder: ModelBuilder, grid_I3: string, mergeSize: number): FrameGrid {
  const { editor } = builder;
  const at = '/visual/grid';
  const add = (op: string, name: string, inputs: readonly string[], attributes = {}): string =>
    builder.node(op, `${at}/${name}`, inputs, attributes);
  const column = (axis: number, name: string): string => add('Gather', name, [grid_I3, editor.ints(axis)], { axis: 1 });
  const scalar = (value: string, name: string): string => add('Squeeze', name, [value]);
  const range = (limit: string, name: string): string => add('Range', name, [editor.ints(0), limit, editor.ints(1)]);

  // 1. Images: frames, and patches of a frame.
  const times_I = column(0, 'times_I');
  const widths_I = column(2, 'widths_I');
  const areas_I = add('Mul', 'areas_I', [column(1, 'heights_I'), widths_I]);
  const frameEnds_I = add('CumSum', 'frame_ends_I', [times_I, editor.ints(0)]);
  const sizes_I = add('Mul', 'sizes_I', [times_I, areas_I]);
  const patchStarts_I = add('Sub', 'patch_starts_I', [add('CumSum', 'patch_ends_I', [sizes_I, editor.ints(0)]), sizes_I]);
  const frameStarts_I = add('Sub', 'frame_starts_I', [frameEnds_I, times_I]);
  const numFrames = add('ReduceSum', 'num_frames', [times_I, editor.ints([0])], { keepdims: 1 });
  const longest = add('ReduceMax', 'longest', [areas_I, editor.ints([0])], { keepdims: 1 });

  // 2. Frames: whose they are, their first patch, their size. A frame's image is the number of images that end before it.
  const frames_F = range(scalar(numFrames, 'num_frames_scalar'), 'frames_F');
  const after_FI = add('GreaterOrEqual', 'after_FI', [
    add('Unsqueeze', 'frames_F1', [frames_F, editor.ints([1])]),
    add('Unsqueeze', 'frame_ends_1I', [frameEnds_I, editor.ints([0])]),
  ]);
  const image_F = add('ReduceSum', 'image_F', [add('Cast', 'after_int_FI', [after_FI], { to: DataType.INT64 }), editor.ints([1])], {
    keepdims: 0,
  });
  const ofFrame = (value_I: string, name: string): string => add('Gather', name, [value_I, image_F], { axis: 0 });
  const area_F = ofFrame(areas_I, 'area_F');
  const frameInImage_F = add('Sub', 'frame_in_image_F', [frames_F, ofFrame(frameStarts_I, 'first_frame_F')]);
  const start_F = add('Add', 'start_F', [ofFrame(patchStarts_I, 'first_patch_F'), add('Mul', 'skipped_F', [frameInImage_F, area_F])]);
  const aside = (value_F: string, name: string): string => add('Unsqueeze', name, [value_F, editor.ints([1])]);
  const area_F1 = aside(area_F, 'area_F1');

  // 3. Slots: the patch in each, and back.
  const slots_1P = add('Unsqueeze', 'slots_1P', [range(scalar(longest, 'longest_scalar'), 'slots_P'), editor.ints([0])]);
  const isPatch = add('Less', 'is_patch_FP', [slots_1P, area_F1]);
  const inFrame_FP = add('Min', 'patch_in_frame_FP', [slots_1P, add('Sub', 'last_patch_F1', [area_F1, editor.ints(1)])]);
  const patchOfSlot = add('Add', 'patch_of_slot_FP', [inFrame_FP, aside(start_F, 'start_F1')]);
  const flat = add('Reshape', 'is_patch_flat', [isPatch, editor.ints([-1])]);
  const slotOfPatch = add('Squeeze', 'slot_of_patch', [add('NonZero', 'slot_of_patch_1', [flat]), editor.ints([0])]);

  // 4. Height and width. Patches go block by block, row by row of the mergeSize x mergeSize patches that become a token.
  const merge = editor.ints(mergeSize);
  const block_FP = add('Div', 'block_FP', [inFrame_FP, editor.ints(mergeSize ** 2)]);
  const inBlock_FP = add('Mod', 'in_block_FP', [inFrame_FP, editor.ints(mergeSize ** 2)]);
  const blocksAcross_F1 = aside(add('Div', 'blocks_across_F', [ofFrame(widths_I, 'width_F'), merge]), 'blocks_across_F1');
  const place = (name: string, block: string, inBlock: string): string =>
    add('Add', `${name}_FP`, [add('Mul', `${name}_of_block_FP`, [block, merge]), inBlock]);
  const height_FP = place(
    'height',
    add('Div', 'block_row_FP', [block_FP, blocksAcross_F1]),
    add('Div', 'row_in_block_FP', [inBlock_FP, merge]),
  );
  const width_FP = place(
    'width',
    add('Mod', 'block_column_FP', [block_FP, blocksAcross_F1]),
    add('Mod', 'column_in_block_FP', [inBlock_FP, merge]),
  );
  const axes = [height_FP, width_FP].map((value, i) => add('Unsqueeze', `axis_${i}_1FP`, [value, editor.ints([0])]));
  const positions = add('Cast', 'positions_2FP', [add('Concat', 'places_2FP', axes, { axis: 0 })], { to: DataType.FLOAT });
  return { numFrames, longest, isPatch, patchOfSlot, slotOfPatch, positions };
}

/**
 * What all layers share: slots of the new tokens, the additive masks, positions and sizes, each made once a step.
 *
 * One rule covers packed tokens, window rows and new tokens alike: a key is visible if its slot is real, the attention mask is 1 there,
 * it is not later than the query, and, in a layer with a local window, fewer than that many slots earlier.
 */
import { PACKED_POSITIONS, PACKED_SLOTS, WINDOW_SLOTS } from '../contract.ts';
import { DataType, type GraphEditor } from '../onnx/index.ts';

export const ATTENTION_MASK = 'attention_mask';

/** Later than every slot: an invisible key fails the causal test and needs no test of its own for each query. */
const NEVER = 2 ** 40;

/**
 * Added to the score of an invisible key. It must outweigh any score and leave the sum finite, so that a query that sees nothing (left
 * padding) gets an even softmax and not NaN. At 1e30 the score is lost in rounding altogether: such rows are even to the last bit. fp16
 * ends at 65504; 3e4 leaves room for scores to -35504 and, below exp's reach of 17, for any visible score above -29983.
 */
const MASKED: Readonly<Partial<Record<number, number>>> = { [DataType.FLOAT]: -1e30, [DataType.FLOAT16]: -3e4 };

/** Values by name; vectors of one element where no shape is said. */
export interface Shared {
  readonly batch: string;
  readonly numNew: string;
  /** Slots so far, the new tokens' included. */
  readonly numSlots: string;
  readonly numSegments: string;
  /** [3]: M·T, S, N: the parts of a row of scores. */
  readonly scoreParts: string;
  /** [4]: what Shape of a `past_key_values` input said before, for readers that count the past by it. */
  pastShape(numKvHeads: number, headDim: number): string;
  /** [B, 1, G·N, M·T + S + N] in the compute type; one for each (window, G) asked for. */
  bias(localWindow: number | undefined, groups: number): string;
  /** [B, N] int64: visible tokens of the attention mask before each new token. */
  maskPositions(): string;
  /** [1]: B·M. */
  segmentsOfBatch(): string;
  /** [B·M, T] int64, for packed keys that are turned late. */
  packedPositions(): string;
  /** [1]: `factor` · N. */
  timesNew(factor: number): string;
  /** What `make` gives, made once a graph: all who ask for the same key share it. */
  once(key: string, make: () => string): string;
  /** A shape vector from numbers and one-element vectors; shared by all who ask for the same one. */
  shape(...parts: readonly (number | string)[]): string;
}

/**
 * @param query [B, N, H·D] of any layer; tells N.
 * @param codes [B, M, T, rk] of any layer; tells M.
 */
export function shareMask(editor: GraphEditor, query: string, codes: string, type: DataType): Shared {
  const once = memo();
  const size = (value: string, axis: number, wanted: string): string =>
    editor.add('Gather', [once(`Shape ${value}`, () => editor.add('Shape', [value], `${wanted}_shape`)), editor.ints([axis])], wanted);

  const batch = size(ATTENTION_MASK, 0, 'batch_1');
  const numSlots = size(ATTENTION_MASK, 1, 'num_slots_1');
  const numNew = size(query, 1, 'num_new_1');
  const numSegments = size(codes, 1, 'num_segments_1');
  const numPast = editor.add('Sub', [numSlots, numNew], 'num_past_1');
  const shape = (...parts: readonly (number | string)[]): string => {
    if (parts.every((part) => typeof part === 'number')) return editor.ints(parts);
    const values = parts.map((part) => (typeof part === 'number' ? editor.ints([part]) : part));
    return once(`Concat ${values}`, () => editor.add('Concat', values, 'shape', { attributes: { axis: 0 } }));
  };

  const scalar = (value: string): string => editor.add('Squeeze', [value], `${value}_scalar`);
  const slots_N = editor.add('Range', [scalar(numPast), scalar(numSlots), editor.ints(1)], 'new_slots_N');
  const slots_BN = editor.add('Expand', [slots_N, shape(batch, numNew)], 'new_slots_BN');
  const slots_BC = editor.add('Concat', [PACKED_SLOTS, WINDOW_SLOTS, slots_BN], 'slots_BC', { attributes: { axis: 1 } });
  const place_BC = editor.add('Max', [slots_BC, editor.ints(0)], 'slots_clipped_BC');
  const seen_BC = editor.add(
    'Cast',
    [editor.add('GatherElements', [ATTENTION_MASK, place_BC], 'mask_at_slots_BC', { attributes: { axis: 1 } })],
    'seen_BC',
    { attributes: { to: DataType.BOOL } },
  );
  const real_BC = editor.add('GreaterOrEqual', [slots_BC, editor.ints(0)], 'real_BC');
  const visible_BC = editor.add('And', [seen_BC, real_BC], 'visible_BC');
  const keySlots_BC = editor.add('Where', [visible_BC, slots_BC, editor.ints(NEVER)], 'key_slots_BC');
  const keySlots_B11C = editor.add('Unsqueeze', [keySlots_BC, editor.ints([1, 2])], 'key_slots_B11C');
  const querySlots_11N1 = editor.add('Unsqueeze', [slots_N, editor.ints([0, 1, 3])], 'query_slots_11N1');
  const causal_B1NC = editor.add('LessOrEqual', [keySlots_B11C, querySlots_11N1], 'causal_B1NC');

  const bias_B1NC = (localWindow: number | undefined): string =>
    once(`bias ${localWindow}`, () => {
      let visible = causal_B1NC;
      if (localWindow !== undefined) {
        const edge = editor.add('Sub', [querySlots_11N1, editor.ints(localWindow)], `window_edge_${localWindow}_11N1`);
        const near = editor.add('Greater', [keySlots_B11C, edge], `near_${localWindow}_B1NC`);
        visible = editor.add('And', [causal_B1NC, near], `causal_near_${localWindow}_B1NC`);
      }
      const masked = editor.scalar(MASKED[type] ?? -1e30, type);
      return editor.add('Where', [visible, editor.scalar(0, type), masked], `mask_${localWindow ?? 'global'}_B1NC`);
    });

  const partSize = (value: string, wanted: string): string => size(value, 1, wanted);
  const scoreParts = shape(partSize(PACKED_SLOTS, 'num_packed_1'), partSize(WINDOW_SLOTS, 'num_window_1'), numNew);

  const segmentsOfBatch = (): string => once('B·M', () => editor.add('Mul', [batch, numSegments], 'num_segments_of_batch_1'));
  return {
    batch,
    numNew,
    numSlots,
    numSegments,
    scoreParts,
    shape,
    once,
    timesNew: (factor) =>
      factor === 1 ? numNew : once(`N·${factor}`, () => editor.add('Mul', [numNew, editor.ints([factor])], `num_new_x${factor}_1`)),
    pastShape: (numKvHeads, headDim) => shape(batch, numKvHeads, numPast, headDim),
    bias(localWindow, groups) {
      const bias = bias_B1NC(localWindow);
      if (groups === 1) return bias;
      const name = `mask_${localWindow ?? 'global'}_x${groups}_B1RC`;
      return once(name, () => editor.add('Tile', [bias, editor.ints([1, 1, groups, 1])], name)); // [B, 1, G·N, C]
    },
    maskPositions: () =>
      once('positions', () => {
        const counts = editor.add('CumSum', [ATTENTION_MASK, editor.ints(1)], 'token_counts_BA');
        const counts_BN = editor.add('Slice', [counts, numPast, numSlots, editor.ints([1])], 'token_counts_BN');
        return editor.add('Max', [editor.add('Sub', [counts_BN, editor.ints(1)], 'positions_signed_BN'), editor.ints(0)], 'positions_BN');
      }),
    segmentsOfBatch,
    packedPositions: () =>
      once('packed positions', () => editor.add('Reshape', [PACKED_POSITIONS, shape(segmentsOfBatch(), -1)], 'packed_positions_BMxT')),
  };
}

function memo(): (key: string, make: () => string) => string {
  const known = new Map<string, string>();
  return (key, make) => {
    const value = known.get(key) ?? make();
    known.set(key, value);
    return value;
  };
}

/**
 * Packed codes and bases as a layer's products read them, whatever they are held as.
 *
 * Two ways lead from integers to keys and values. As matrices: zeros taken off, steps multiplied in, `codes · basis` is the keys; a pass over all T·r codes and
 * all r·W basis numbers. Or the integers are left as they are and zeros and steps are applied to what is small, the queries in latent space and the sums by
 * weight: with k the basis rows' zeros, z the codes' zeros and p the steps,
 *
 *     key score  Σ_c (code_c - z_c) p_c (q · basis_c - k_c Σ_d q_d)
 *     value_d    Σ_c l_c (basis_cd - k_c),  l_c = p_c (Σ_t w_t code_tc - z_c Σ_t w_t)
 *
 * The column of ones beside the codes gives the products their terms in z.
 */
import { basisName, basisWidthsName, codesName, codeWidthsName, type Side, stepRows, stepsName } from '../contract.ts';
import { DataType, float, floatTensor, type GraphEditor, rawTensor } from '../onnx/index.ts';
import { ELEMENT, type Layer } from './attention.ts';

/** Whether integers are scored as they are. Plain operators alone have no product that reads them transposed. */
function isLatent({ packing }: Layer): boolean {
  return packing.form.fused && stepRows(packing.codes, packing.basis) > 0;
}

/** Codes [B, M, T, r] in the compute type, which multiply with {@link basisMatrix}. */
export function codesMatrix(layer: Layer, side: Side): string {
  const codes = readCodes(layer, side, false);
  const { codeZeros } = readSteps(layer, side);
  return codeZeros ? layer.add('Sub', [codes, codeZeros], `${side}_codes_centred_BMTr`) : codes;
}

/** Basis [B, M, Hkv, r, D] in the compute type, steps multiplied in. */
export function basisMatrix(layer: Layer, side: Side): string {
  const basis = readBasis(layer, side);
  const { steps, basisZeros } = readSteps(layer, side);
  if (!steps) return basis;
  const asRows = (value: string, name: string): string => layer.add('Unsqueeze', [value, layer.editor.ints([4])], `${side}_${name}_BM1r1`);
  const centred = basisZeros ? layer.add('Sub', [basis, asRows(basisZeros, 'basis_zeros')], `${side}_basis_centred_BMHkvrD`) : basis;
  return layer.add('Mul', [centred, asRows(steps, 'steps')], `${side}_basis_stepped_BMHkvrD`);
}

/** Scores of rotated packed keys in latent space, [B, M, H·N, T]. Parameters as of {@link latentQuery}. */
export function scoreCodes(layer: Layer, query_B1HkvRD: string, query_BHND: string, alpha: number): string {
  const query = latentQuery(layer, query_B1HkvRD, query_BHND, alpha);
  const codes = isLatent(layer) ? readCodes(layer, 'key', true) : codesMatrix(layer, 'key');
  return layer.contrib('FusedMatMul', [query, codes], 'scores_packed_BMHRT', { transB: 1 });
}

/**
 * What codes are multiplied by to be scores, [B, M, H·N, r], and r + 1 where a column of ones stands behind them.
 *
 * @param query_B1HkvRD and query_BHND: the same queries
 * @param alpha what products of query and key are multiplied by
 */
export function latentQuery(layer: Layer, query_B1HkvRD: string, query_BHND: string, alpha: number): string {
  const { shared, attention } = layer;
  const latent = isLatent(layer);
  const basis = latent ? readBasis(layer, 'key') : basisMatrix(layer, 'key');
  const latent_BMHkvRr = layer.contrib('FusedMatMul', [query_B1HkvRD, basis], 'query_latent_BMHkvRr', { alpha: float(alpha), transB: 1 });
  const rows = shared.shape(0, 0, shared.timesNew(attention.shape.numHeads), -1);
  const latent_BMHRr = layer.add('Reshape', [latent_BMHkvRr, rows], 'query_latent_BMHRr');
  return latent ? queryOfIntegers(layer, latent_BMHRr, query_BHND, alpha) : latent_BMHRr;
}

/** What integer codes are multiplied by, [B, M, H·N, r], and r + 1 with the column of ones. */
function queryOfIntegers(layer: Layer, latent_BMHRr: string, query_BHND: string, alpha: number): string {
  const { shared, attention } = layer;
  const { steps, basisZeros, codeZeros } = readSteps(layer, 'key');
  let latent = latent_BMHRr;
  if (basisZeros) {
    const sums_BHN1 = layer.contrib('FusedMatMul', [query_BHND, onesOf(layer)], 'query_sums_BHN1', { alpha: float(alpha) });
    const sums_B1HR1 = layer.add(
      'Reshape',
      [sums_BHN1, shared.shape(0, 1, shared.timesNew(attention.shape.numHeads), 1)],
      'query_sums_B1HR1',
    );
    const zeros_BMHRr = layer.add('Mul', [sums_B1HR1, basisZeros], 'query_latent_zeros_BMHRr');
    latent = layer.add('Sub', [latent, zeros_BMHRr], 'query_latent_centred_BMHRr');
  }
  latent = layer.add('Mul', [latent, steps as string], 'query_latent_stepped_BMHRr');
  if (!codeZeros) return latent;
  const zero_BMHR1 = layer.contrib('FusedMatMul', [latent, codeZeros], 'query_zero_BMHR1', { alpha: float(-1), transB: 1 });
  return layer.add('Concat', [latent, zero_BMHR1], 'query_latent_ones_BMHRr', { axis: -1 });
}

/** Packed values summed by weight, [B, Hkv, R, D]. @param weights_BMHRT each head's rows, by segment */
export function attendCodes(layer: Layer, weights_BMHRT: string): string {
  const codes = isLatent(layer) ? readCodes(layer, 'value', true) : codesMatrix(layer, 'value');
  return attendSums(layer, layer.add('MatMul', [weights_BMHRT, codes], 'value_latent_BMHRr'));
}

/** Values of which codes, and ones where they stand behind them, are summed by weight already: [B, M, H·N, r] -> [B, Hkv, R, D]. */
export function attendSums(layer: Layer, summed: string): string {
  const { editor, shared, attention } = layer;
  const { numKvHeads } = attention.shape;
  const latent = isLatent(layer);
  const latent_BMHRr = latent ? sumsOfIntegers(layer, summed) : summed;
  const byKvHead = shared.shape(0, 0, numKvHeads, shared.timesNew(layer.groups), -1);
  const latent_BMHkvRr = layer.add('Reshape', [latent_BMHRr, byKvHead], 'value_latent_BMHkvRr');
  const basis = latent ? readBasis(layer, 'value') : basisMatrix(layer, 'value');
  const attended_BMHkvRD = layer.add('MatMul', [latent_BMHkvRr, basis], 'attended_BMHkvRD');
  const attended_BHkvRD = layer.add('ReduceSum', [attended_BMHkvRD, editor.ints([1])], 'attended_packed_BHkvRD', { keepdims: 0 });
  const { basisZeros } = readSteps(layer, 'value');
  if (!latent || !basisZeros) return attended_BHkvRD;
  const zero_BMHR1 = layer.contrib('FusedMatMul', [latent_BMHRr, basisZeros], 'value_zero_BMHR1', { transB: 1 });
  const zero_BHR1 = layer.add('ReduceSum', [zero_BMHR1, editor.ints([1])], 'value_zero_BHR1', { keepdims: 0 });
  const zero_BHkvR1 = layer.add('Reshape', [zero_BHR1, shared.shape(0, numKvHeads, shared.timesNew(layer.groups), 1)], 'value_zero_BHkvR1');
  return layer.add('Sub', [attended_BHkvRD, zero_BHkvR1], 'attended_centred_BHkvRD');
}

/** Sums of integer codes by weight, the last column that of ones, as the basis takes them: [B, M, H·N, r]. */
function sumsOfIntegers(layer: Layer, summed: string): string {
  const { editor } = layer;
  const { steps, codeZeros } = readSteps(layer, 'value');
  let latent = summed;
  if (codeZeros) {
    const part = (from: number, to: number, name: string): string =>
      layer.add('Slice', [summed, editor.ints([from]), editor.ints([to]), editor.ints([-1])], name);
    const sums_BMHRr = part(0, -1, 'value_sums_BMHRr');
    const weight_BMHR1 = part(-1, Number.MAX_SAFE_INTEGER, 'value_weight_BMHR1');
    const zeros_BMHRr = layer.add('Mul', [weight_BMHR1, codeZeros], 'value_zeros_BMHRr');
    latent = layer.add('Sub', [sums_BMHRr, zeros_BMHRr], 'value_latent_centred_BMHRr');
  }
  return layer.add('Mul', [latent, steps as string], 'value_latent_stepped_BMHRr');
}

interface Steps {
  /** [B, M, 1, r] each; undefined where the types have none. */
  readonly steps?: string;
  readonly basisZeros?: string | undefined;
  readonly codeZeros?: string | undefined;
}

/** The rows of the steps, taken apart once a layer and side. */
function readSteps({ editor, packing, named, attention }: Layer, side: Side): Steps {
  const { codes, basis } = packing;
  const numRows = stepRows(codes, basis);
  if (!numRows) return {};
  const input = stepsName(attention.shape.index, side);
  if (numRows === 1) return { steps: input };
  const wanted = ['steps', ...(basis === 'mixed' ? ['basis_zeros'] : []), ...(codes === 'mixed' ? ['code_zeros'] : [])];
  const names = wanted.map((name) => named(`${side}_${name}_BM1r`));
  const sizes = editor.ints(wanted.map(() => 1));
  const [steps, ...zeros] = once(editor, `Split ${input}`, () =>
    editor.addMany('Split', [input, sizes], names, { attributes: { axis: 2 } }),
  ) as [string, ...string[]];
  const codeZeros = codes === 'mixed' ? zeros.at(-1) : undefined;
  return { steps, basisZeros: basis === 'mixed' ? zeros[0] : undefined, codeZeros };
}

/** Codes [B, M, T, r] in the compute type: numbers, or levels; with a column of ones behind levels that have zeros, if asked for. */
function readCodes(layer: Layer, side: Side, withOnes: boolean): string {
  const { attention, packing, type } = layer;
  const name = codesName(attention.shape.index, side);
  if (packing.codes !== 'mixed') return layer.cast(name, ELEMENT[packing.codes], type, `${side}_codes_BMTr`);
  const ones = withOnes ? [onesColumn(layer)] : [];
  return unpack(layer, name, codeWidthsName(attention.shape.index, side), 3, `${side}_codes_BMTr`, ones);
}

/** Basis [B, M, Hkv, r, D] in the compute type: numbers, or levels. */
function readBasis(layer: Layer, side: Side): string {
  const { attention, packing, type } = layer;
  const name = basisName(attention.shape.index, side);
  if (packing.basis !== 'mixed') return layer.cast(name, ELEMENT[packing.basis], type, `${side}_basis_BMHkvrD`);
  return unpack(layer, name, basisWidthsName(attention.shape.index, side), 3, `${side}_basis_BMHkvrD`, []);
}

/**
 * Levels out of bytes along one axis, in the compute type. The lowest field of a byte is shifted to its top and stays there, as `Field.factor` says: one pass
 * over those bytes instead of two. All passes but the last read and write bytes.
 */
function unpack(layer: Layer, bytes: string, widths: string, axis: number, wanted: string, behind: readonly string[]): string {
  const { editor } = layer;
  const names = [8, 4, 2].map((bits) => layer.named(`${wanted}_bytes_${bits}`));
  const [bits8, bits4, bits2] = editor.addMany('Split', [bytes, widths], names, { attributes: { axis } }) as [string, string, string];
  const shift = (value: string, by: number, direction: 'LEFT' | 'RIGHT'): string =>
    layer.add('BitShift', [value, byte(editor, by)], `${wanted}_fields`, { direction });
  const fields = [
    bits8,
    shift(bits4, 4, 'RIGHT'),
    shift(bits4, 4, 'LEFT'),
    shift(bits2, 6, 'RIGHT'),
    shift(shift(bits2, 2, 'LEFT'), 6, 'RIGHT'),
    shift(shift(bits2, 4, 'LEFT'), 6, 'RIGHT'),
    shift(bits2, 6, 'LEFT'),
  ];
  const levels = layer.add('Concat', [...fields, ...behind], `${wanted}_levels`, { axis });
  return layer.cast(levels, DataType.UINT8, layer.type, wanted);
}

/** [B, M, T, 1] uint8, shared by all layers. */
function onesColumn({ editor, shared, attention }: Layer): string {
  const [ones] = once(editor, 'ones of packed tokens', () => {
    const shape = editor.add('Shape', [codesName(attention.shape.index, 'key')], 'packed_shape');
    const numTokens = editor.add('Gather', [shape, editor.ints([2])], 'segment_tokens_1');
    return [editor.add('Expand', [byte(editor, 1), shared.shape(shared.batch, shared.numSegments, numTokens, 1)], 'packed_ones_BMT1')];
  });
  return ones as string;
}

/** [D, 1] in the compute type: a product with it sums over a head's columns. */
function onesOf({ editor, attention, type }: Layer): string {
  const { headDim } = attention.shape;
  const [ones] = once(editor, `ones ${headDim} ${type}`, () => [
    editor.addInitializer(floatTensor(editor.fresh(`ones_${headDim}`), [headDim, 1], new Array<number>(headDim).fill(1), type)),
  ]);
  return ones as string;
}

function byte(editor: GraphEditor, value: number): string {
  const [made] = once(editor, `byte ${value}`, () => [
    editor.addInitializer(rawTensor(editor.fresh(`const_u8_${value}`), DataType.UINT8, [], Uint8Array.of(value))),
  ]);
  return made as string;
}

const known = new WeakMap<GraphEditor, Map<string, readonly string[]>>();

/** What `make` gives, made once a graph; a branch of an If node makes its own, since no other sees them. */
function once(editor: GraphEditor, key: string, make: () => readonly string[]): readonly string[] {
  const ofEditor = known.get(editor) ?? new Map<string, readonly string[]>();
  known.set(editor, ofEditor);
  const made = ofEditor.get(key) ?? make();
  ofEditor.set(key, made);
  return made;
}

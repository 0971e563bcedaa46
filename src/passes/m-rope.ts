/**
 * Scores of packed keys whose rotary pairs belong to axes (M-RoPE, https://arxiv.org/abs/2409.12191), in latent space and exact.
 *
 * A key k = codes · basis turned to its position and multiplied with a query is k multiplied with the query turned back; each axis turns only columns of
 * its own, so a token's score is a sum over axes: codes · Σ u_axis(its place there), where u = (the axis' columns of the query, turned back) · (the same
 * columns of the basis)ᵀ, [r] for each head and place. A segment of 24 x 24 tokens has 1 + 24 + 24 places.
 *
 * Letters as in `shape.ts` and `attention.ts`; X: places on an axis, K: lines or columns of tokens, w: tokens of each (see `cache/axis-tables.ts`).
 */
import { assert } from '../errors.ts';
import { choose, float } from '../onnx/index.ts';
import { columnsByAxis } from '../shape.ts';
import type { Layer } from './attention.ts';
import { type Axis, columnsOf, isByAxes, isInOrder, type Sweep, sharedSweeps } from './axis-places.ts';
import { rotate } from './rotary.ts';

/**
 * Scores of the packed tokens, [B, H·N, M, T]: by axes where the step has few enough new tokens for that to be cheaper, which the cache says, and else as
 * `late` gives them. Both are exact. What a branch ends with is written where the If node wants it: ends that only reshape would be copies.
 *
 * @param query_BHND turned, columns by axis
 * @param alpha multiplied to every score
 * @param late scores by keys that are rebuilt and turned, in the layer given
 */
export function scoreByAxes(layer: Layer, query_BHND: string, alpha: number, late: (layer: Layer) => string): string {
  const { editor } = layer;
  // What all layers share is made outside, where it is made once.
  const sweeps = sharedSweeps(layer);
  const [scores] = choose(editor, isByAxes(layer), [{ wanted: layer.named('scores_packed_BHRMT'), type: layer.type, rank: 4 }], {
    yes: (branch) => [latentScores(layer.within(branch, 'by_axes'), query_BHND, alpha, sweeps)],
    no: (branch) => [late(layer.within(branch, 'late'))],
  });
  assert(scores, 'one value');
  return scores;
}

/** Columns of a head in the order of the bases of `m-rope`: often, as in Qwen2-VL, their own. */
export function byAxis(layer: Layer, rows_BHND: string, wanted: string): string {
  const order = columnsByAxis(columnsOf(layer));
  if (isInOrder(order)) return rows_BHND;
  return layer.add('Gather', [rows_BHND, layer.editor.ints(order)], wanted, { axis: -1 });
}

/** Scores by axes, [B, H·N, M, T]. */
function latentScores(layer: Layer, query_BHND: string, alpha: number, sweeps: readonly Sweep[]): string {
  const { editor, shared, attention } = layer;
  const numQueries = shared.timesNew(attention.shape.numHeads);
  // [.., D] -> [.., 2, D_a / 2] for each axis: both columns of its pairs, in one copy.
  const pairs = columnsOf(layer).map((columns) => columns.length / 2);
  const split = (value: string, rank: number, wanted: string): string[] => {
    const shape = shared.shape(...new Array<number>(rank - 1).fill(0), 2, attention.shape.headDim / 2);
    const halves = layer.add('Reshape', [value, shape], `${wanted}_halves`);
    const names = pairs.map((_, axis) => layer.named(`${wanted}_${axis}`));
    return editor.addMany('Split', [halves, editor.ints(pairs)], names, { attributes: { axis: -1 } });
  };
  const queries = split(query_BHND, 4, 'query_BHNDa');
  const bases = split(layer.basis('key'), 5, 'key_basis_BMHkvrDa');
  const codes_BMTxr = layer.add('Reshape', [layer.codes('key'), shared.shape(sweeps[0]?.numTokens ?? '', -1)], 'key_codes_BMTxr');

  let axis = 0;
  const parts = sweeps.map(({ name, axes, tokens, order }) => {
    // 1. What each line or column multiplies its codes with: the sum of its axes' u.
    const projected = axes.map((of) => project(layer, of, queries[axis] as string, bases[axis++] as string, alpha));
    const latent_KQr = projected.length > 1 ? layer.add('Sum', projected, `${name}_latent_KQr`) : (projected[0] as string);
    // 2. The codes of its tokens side by side, one product, and back to where the tokens stand.
    const codes_Kwr = layer.add('Gather', [codes_BMTxr, tokens], `${name}_codes_Kwr`, { axis: 0 });
    const scores_KwQ = product(layer, codes_Kwr, latent_KQr, 3, `${name}_scores_KwQ`);
    const scores_KxwQ = layer.add('Reshape', [scores_KwQ, shared.shape(-1, numQueries)], `${name}_scores_KxwQ`);
    return layer.add('Gather', [scores_KxwQ, order], `${name}_scores_BMxTQ`, { axis: 0 });
  });
  const scores_BMxTQ = layer.add('Add', parts, 'scores_packed_BMxTxQ');
  const scores_BMTQ = layer.add(
    'Reshape',
    [scores_BMxTQ, shared.shape(shared.batch, shared.numSegments, -1, numQueries)],
    'scores_packed_BMTQ',
  );
  return layer.add('Transpose', [scores_BMTQ], 'scores_packed_BQMT', { perm: [0, 3, 1, 2] });
}

/** u of one axis for each line or column: [K, H·N, r]. */
function project(layer: Layer, axis: Axis, query_BHN2d: string, basis_BMHkvr2d: string, alpha: number): string {
  const { editor, shared, attention } = layer;
  const { numHeads, numKvHeads } = attention.shape;
  const numQueries = shared.timesNew(numHeads);
  const { numColumns, numPlaces } = axis;
  const size = { numHeads, headDim: numColumns, type: layer.type };
  const query_B1Q1Da = layer.add('Reshape', [query_BHN2d, shared.shape(0, 1, numQueries, 1, numColumns)], 'query_B1Q1Da');
  const query_BMQXDa = layer.add('Expand', [query_B1Q1Da, shared.shape(1, shared.numSegments, 1, numPlaces, 1)], 'query_BMQXDa');
  const rows_BMxQXDa = layer.add('Reshape', [query_BMQXDa, shared.shape(-1, numQueries, numPlaces, numColumns)], 'query_BMxQXDa');
  const back_BMxQXDa = rotate(editor, rows_BMxQXDa, axis.rows, axis.rotary, size, layer.named('query_back_BMxQXDa'));
  const back_BMHkvRXDa = layer.add(
    'Reshape',
    [back_BMxQXDa, shared.shape(shared.batch, shared.numSegments, numKvHeads, -1, numColumns)],
    'query_back_BMHkvRXDa',
  );
  const basis_BMHkvrDa = layer.add('Reshape', [basis_BMHkvr2d, shared.shape(0, 0, 0, -1, numColumns)], 'key_basis_BMHkvrDa');
  const latent_BMHkvRXr = product(layer, back_BMHkvRXDa, basis_BMHkvrDa, 5, 'query_latent_BMHkvRXr', alpha);
  const latent_BMQXxr = layer.add('Reshape', [latent_BMHkvRXr, shared.shape(axis.numProjected, -1)], 'query_latent_BMQXxr');
  return layer.add('Gather', [latent_BMQXxr, axis.found], 'query_latent_KQr', { axis: 0 });
}

/** alpha · a · bᵀ of matrices in values of `rank` dimensions. */
function product(layer: Layer, a: string, b: string, rank: number, wanted: string, alpha = 1): string {
  if (layer.packing.form.fused) return layer.contrib('FusedMatMul', [a, b], wanted, { alpha: float(alpha), transB: 1 });
  assert(alpha === 1, 'the plain form scales its queries before');
  const perm = Array.from({ length: rank }, (_, axis) => (axis < rank - 2 ? axis : 2 * rank - 3 - axis));
  return layer.add('MatMul', [a, layer.add('Transpose', [b], `${wanted}_turned`, { perm })], wanted);
}

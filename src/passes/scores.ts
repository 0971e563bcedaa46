/**
 * Scores of one layer, [B, Hkv, R, C], in two spellings: with ONNX Runtime's FusedMatMul, and with ONNX's own operators.
 *
 * Neither ever transposes codes, keys or the window, nor, but for `m-rope` in the plain one, bases: FusedMatMul reads them transposed, and the plain spelling
 * turns the products round (keys · queryᵀ), so that only scores and queries, which are small, are transposed.
 */
import { float } from '../onnx/index.ts';
import type { Layer } from './attention.ts';
import { orderedRotary } from './axis-places.ts';
import { byAxis, scoreByAxes } from './m-rope.ts';
import { type PackedRotary, packedRotary, turnedKeys } from './packed-rotary.ts';
import { joinSegments, type Rows } from './rows.ts';
import { scoreTiers } from './tiers.ts';
import { scoreCodes } from './unpack.ts';

/** For the CPU and wasm. */
export function scoreFused(layer: Layer, rows: Rows): string {
  const { shared, attention } = layer;
  const { numKvHeads, headDim } = attention.shape;
  const attributes = { alpha: float(productScale(layer)), transB: 1 };
  const query_BHkvRD = rowsByKvHead(layer, rows.query_BHND);
  const query_B1HkvRD = layer.add('Reshape', [rows.query_BHND, shared.shape(0, 1, numKvHeads, -1, headDim)], 'query_B1HkvRD');

  let packed_BHkvRMxT: string | readonly string[];
  if (layer.packing.tiered) {
    packed_BHkvRMxT = scoreTiers(layer, rows, query_B1HkvRD, productScale(layer));
  } else if (layer.packing.rotary === 'rotate-late') {
    const scores_BMHkvRT = scoreLateFused(layer, query_B1HkvRD, packedRotary(layer));
    packed_BHkvRMxT = joinSegments(layer, layer.add('Transpose', [scores_BMHkvRT], 'scores_packed_BHkvRMT', { perm: [0, 2, 3, 1, 4] }));
  } else if (layer.packing.rotary === 'm-rope') {
    const ordered_BHND = byAxis(layer, rows.query_BHND, 'query_ordered_BHND');
    const ordered_B1HkvRD = layer.add('Reshape', [ordered_BHND, shared.shape(0, 1, numKvHeads, -1, headDim)], 'query_ordered_B1HkvRD');
    const turned = orderedRotary(layer);
    const scores_BHRMT = scoreByAxes(layer, ordered_BHND, productScale(layer), (late) => {
      const scores_BMHkvRT = scoreLateFused(late, ordered_B1HkvRD, turned);
      const numRows = shared.timesNew(attention.shape.numHeads);
      const scores_BMHRT = late.add('Reshape', [scores_BMHkvRT, shared.shape(0, shared.numSegments, numRows, -1)], 'scores_packed_BMHRT');
      return late.add('Transpose', [scores_BMHRT], 'scores_packed_BHRMT', { perm: [0, 2, 1, 3] });
    });
    packed_BHkvRMxT = joinSegments(layer, scores_BHRMT);
  } else {
    const scores_BMHRT = scoreCodes(layer, query_B1HkvRD, rows.query_BHND, productScale(layer));
    packed_BHkvRMxT = joinSegments(layer, layer.add('Transpose', [scores_BMHRT], 'scores_packed_BHRMT', { perm: [0, 2, 1, 3] }));
  }
  const window_BHkvRS = layer.contrib('FusedMatMul', [query_BHkvRD, layer.window('key')], 'scores_window_BHkvRS', attributes);
  const new_BHkvRN = layer.contrib('FusedMatMul', [query_BHkvRD, rows.key_BHkvND], 'scores_new_BHkvRN', attributes);
  return layer.add('Concat', [packed_BHkvRMxT, window_BHkvRS, new_BHkvRN].flat(), 'scores_BHkvRC', { axis: -1 });
}

/** For WebGPU, where FusedMatMul would fall back to the CPU. */
export function scorePlain(layer: Layer, rows: Rows): string {
  const { editor, shared } = layer;
  const scaled_BHND = layer.add('Mul', [rows.query_BHND, editor.scalar(productScale(layer), layer.type)], 'query_scaled_BHND');
  const query_BHkvRD = rowsByKvHead(layer, scaled_BHND);
  const query_BHkvDR = layer.add('Transpose', [query_BHkvRD], 'query_BHkvDR', { perm: [0, 1, 3, 2] });
  const query_B1HkvDR = layer.add('Unsqueeze', [query_BHkvDR, editor.ints([1])], 'query_B1HkvDR');

  let packed_BHkvRMxT: string;
  if (layer.packing.rotary === 'rotate-late') {
    packed_BHkvRMxT = joinSegments(layer, scoreLatePlain(layer, query_B1HkvDR, packedRotary(layer)));
  } else if (layer.packing.rotary === 'm-rope') {
    const ordered_BHND = byAxis(layer, scaled_BHND, 'query_ordered_BHND');
    const ordered_BHkvDR = layer.add('Transpose', [rowsByKvHead(layer, ordered_BHND)], 'query_ordered_BHkvDR', { perm: [0, 1, 3, 2] });
    const ordered_B1HkvDR = layer.add('Unsqueeze', [ordered_BHkvDR, editor.ints([1])], 'query_ordered_B1HkvDR');
    const turned = orderedRotary(layer);
    const scores_BHRMT = scoreByAxes(layer, ordered_BHND, 1, (late) => {
      const scores_BHkvRMT = scoreLatePlain(late, ordered_B1HkvDR, turned);
      const shape = shared.shape(0, shared.timesNew(layer.attention.shape.numHeads), shared.numSegments, -1);
      return late.add('Reshape', [scores_BHkvRMT, shape], 'scores_packed_BHRMT');
    });
    packed_BHkvRMxT = joinSegments(layer, scores_BHRMT);
  } else {
    const latent_BMHkvrR = layer.add('MatMul', [layer.basis('key'), query_B1HkvDR], 'query_latent_BMHkvrR');
    const latent_BMrHkvR = layer.add('Transpose', [latent_BMHkvrR], 'query_latent_BMrHkvR', { perm: [0, 1, 3, 2, 4] });
    const numRows = shared.timesNew(layer.attention.shape.numHeads);
    const latent_BMrHR = layer.add('Reshape', [latent_BMrHkvR, shared.shape(0, 0, -1, numRows)], 'query_latent_BMrHR');
    const scores_BMTHR = layer.add('MatMul', [layer.codes('key'), latent_BMrHR], 'scores_packed_BMTHR');
    packed_BHkvRMxT = joinSegments(layer, layer.add('Transpose', [scores_BMTHR], 'scores_packed_BHRMT', { perm: [0, 3, 1, 2] }));
  }
  const window_BHkvSR = layer.add('MatMul', [layer.window('key'), query_BHkvDR], 'scores_window_BHkvSR');
  const new_BHkvNR = layer.add('MatMul', [rows.key_BHkvND, query_BHkvDR], 'scores_new_BHkvNR');
  const dense_BHkvCR = layer.add('Concat', [window_BHkvSR, new_BHkvNR], 'scores_dense_BHkvCR', { axis: 2 });
  const dense_BHkvRC = layer.add('Transpose', [dense_BHkvCR], 'scores_dense_BHkvRC', { perm: [0, 1, 3, 2] });
  return layer.add('Concat', [packed_BHkvRMxT, dense_BHkvRC], 'scores_BHkvRC', { axis: -1 });
}

/** Scores by keys rebuilt and turned, [B, M, Hkv, R, T]. */
function scoreLateFused(layer: Layer, query_B1HkvRD: string, turned: PackedRotary): string {
  const attributes = { alpha: float(productScale(layer)), transB: 1 };
  return layer.contrib(
    'FusedMatMul',
    [query_B1HkvRD, turnedKeys(layer, turned, layer.codes('key'), layer.basis('key'))],
    'scores_packed_BMHkvRT',
    attributes,
  );
}

/** The same in the plain form, by queries that are scaled, [B, Hkv, R, M, T]. */
function scoreLatePlain(layer: Layer, query_B1HkvDR: string, turned: PackedRotary): string {
  const scores_BMHkvTR = layer.add(
    'MatMul',
    [turnedKeys(layer, turned, layer.codes('key'), layer.basis('key')), query_B1HkvDR],
    'scores_packed_BMHkvTR',
  );
  return layer.add('Transpose', [scores_BMHkvTR], 'scores_packed_BHkvRMT', { perm: [0, 2, 4, 1, 3] });
}

/** What a product of query and key is multiplied by; a softcap's division is taken along. */
function productScale(layer: Layer): number {
  const { scale, softcap } = layer.attention;
  return softcap > 0 ? scale / softcap : scale;
}

/** [B, H, N, D] -> [B, Hkv, G·N, D]: the rows that share a key head become one matrix, so keys are never repeated. */
function rowsByKvHead(layer: Layer, query_BHND: string): string {
  const { numKvHeads, headDim } = layer.attention.shape;
  if (layer.groups === 1) return query_BHND;
  return layer.add('Reshape', [query_BHND, layer.shared.shape(0, numKvHeads, -1, headDim)], 'query_BHkvRD');
}

/** Public exports, in the order data flows. */

export type { Footprint } from './cache/footprint.ts';
export { type CacheReport, PackedCache } from './cache.ts';
export { type CalibrateOptions, type Calibration, type CalibrationSample, calibrate } from './calibrate.ts';
export { type Answer, type CompareOptions, type Comparison, compare } from './compare.ts';
export type { Split } from './encode/column-bits.ts';
export { AttentionPackError, FileFormatError, type Refusal, RefusedGraphError } from './errors.ts';
export type { LoadOptions, ModelClass } from './hook.ts';
export { packed } from './load.ts';
export { type Agreement, agreement } from './loyalty.ts';
export { type ModelFile, readModel, writeModel } from './onnx/index.ts';
export type {
  Bases,
  BasisPer,
  CacheOptions,
  CompactAt,
  EvictOf,
  EvictOptions,
  EvictPer,
  EvictWhen,
  GraphOptions,
  PackedOptions,
  Ranks,
  Spread,
  Text,
  TextOptions,
} from './options.ts';
export type { PolicyName } from './policies/index.ts';
export { type Message, type MessagePart, type Prompt, prompt, type QuestionOptions, question } from './prompt.ts';
export { MOMENTS_FILE, type QueryMoments, writeMoments } from './query-moments.ts';
export { type RewriteOptions, type RewriteReport, readShape, rewrite } from './rewrite.ts';
export type { BasisType, CodeType, LayerShape, ModelShape, RotaryMode } from './shape.ts';
export type { PackedModel } from './state.ts';
export type { TierOptions, TiersOf } from './tier-options.ts';
export type { TierReport } from './tiering.ts';

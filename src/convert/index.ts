/** A Hugging Face checkpoint (LLaVA, Qwen2-VL), or random weights, into the folder layout of transformers.js, in any precision. */
export {
  type ConvertOptions,
  type ConvertProgress,
  type ConvertReport,
  convertCheckpoint,
  type RandomModelOptions,
  writeRandomModel,
} from './convert.ts';
export { DTYPES, type Dtype } from './precision.ts';
export { RANDOM_SHAPES, type RandomShape } from './random-shapes.ts';

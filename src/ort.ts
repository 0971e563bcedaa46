/**
 * ONNX Runtime, the very instance that transformers.js uses: tensors are told apart by class, so a second copy would not do.
 *
 * The package is resolved from transformers.js, which pins its version.
 */
import { createRequire } from 'node:module';
import type * as OnnxRuntime from 'onnxruntime-node';

const fromTransformers = createRequire(createRequire(import.meta.url).resolve('@huggingface/transformers'));
const ort = fromTransformers('onnxruntime-node') as typeof OnnxRuntime;

export const Tensor: typeof OnnxRuntime.Tensor = ort.Tensor;
export type Tensor = OnnxRuntime.Tensor;
export const InferenceSession: typeof OnnxRuntime.InferenceSession = ort.InferenceSession;
export type InferenceSession = OnnxRuntime.InferenceSession;
export type SessionOptions = OnnxRuntime.InferenceSession.SessionOptions;
export type ValueMetadata = OnnxRuntime.InferenceSession.ValueMetadata;

/** Version of the runtime, as its Node package says. */
export const RUNTIME_VERSION: string = ort.env.versions.node ?? ort.env.versions.common;

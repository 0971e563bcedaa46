/** The ONNX file format and graph editing; knows nothing of attention. */
export * from './attribute.ts';
export * from './branch.ts';
export * from './external.ts';
export { decodeModel, encodeModel, type ModelFile, readModel, writeModel } from './file.ts';
export * from './graph.ts';
export * from './proto.ts';
export * from './tensor.ts';
export * from './visit.ts';

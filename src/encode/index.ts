/** A dense span's keys or values -> codes and basis. */
export { createEncoder, type Encoder, type Factors } from './factor.ts';
export * from './quantise.ts';

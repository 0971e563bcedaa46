/** Squared singular values the slow plain way, by ml-matrix's SVD. */
import { Matrix, SingularValueDecomposition } from 'ml-matrix';

/** @param rows [T, W]; @returns [min(T, W)], descending */
export function plainEnergies(rows: Float32Array | Float64Array, numTokens: number, width: number): number[] {
  return new SingularValueDecomposition(Matrix.from1DArray(numTokens, width, rows), { autoTranspose: true }).diagonal.map(
    (value) => value ** 2,
  );
}

/**
 * Heads combined against each head alone, at equal bytes: figure 2 of arXiv 2603.23914.
 *
 * Combined, a column is one code per token and one basis row of all heads: T + W numbers. Alone, a head's column is one code per token and
 * one basis row of that head: T + D numbers, and it can say nothing of the other heads. So rank r of the combined heads stands against
 *
 *     n = floor(r·(T + W) / (T + D)) columns of single heads
 *
 * n / H for each. Bytes are numbers times those of an element, the same in both. (Rank r / H for each head would take T + D instead of T + W
 * numbers where the combined heads take one column: fewer, so that comparison favours combining; this one does not.)
 */

/** One head's columns, [T, D], out of rows [T, W]. */
export function headRows(rows: Float32Array, numTokens: number, width: number, headDim: number, head: number): Float32Array {
  const out = new Float32Array(numTokens * headDim);
  for (let t = 0; t < numTokens; t++) {
    out.set(rows.subarray(t * width + head * headDim, t * width + (head + 1) * headDim), t * headDim);
  }
  return out;
}

/** Equal ranks: every head's first column, then every head's second, and so on; within a turn the head with the most energy goes first. */
export function dealtInTurn(heads: readonly Float64Array[]): Float64Array {
  const longest = Math.max(0, ...heads.map((energies) => energies.length));
  const dealt: number[] = [];
  for (let c = 0; c < longest; c++) dealt.push(...heads.flatMap((energies) => energies[c] ?? []).sort((a, b) => b - a));
  return Float64Array.from(dealt);
}

/** The best ranks a head can be given: always the column of the most energy next, whose head it may be. */
export function dealtByEnergy(heads: readonly Float64Array[]): Float64Array {
  return Float64Array.from(heads.flatMap((energies) => [...energies])).sort((a, b) => b - a);
}

/** Numbers held by `columns` columns of codes and basis. */
export function numbersHeld(columns: number, numTokens: number, width: number): number {
  return columns * (numTokens + width);
}

/** Columns of single heads for the numbers that `rank` columns of combined heads take: the n above. */
export function headColumnsFor(rank: number, numTokens: number, width: number, headDim: number): number {
  return Math.floor(numbersHeld(rank, numTokens, width) / (numTokens + headDim));
}

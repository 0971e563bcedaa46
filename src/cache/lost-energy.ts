/** What packing left out, as a share of the energy of keys and of values: the square of the relative error. */

/** Mean over layers of the share of energy that packing left out. */
export interface LostEnergy {
  readonly keys: number;
  readonly values: number;
}

/** The mean of several; 0 of none. */
export function meanLost(parts: readonly LostEnergy[]): LostEnergy {
  const mean = (of: keyof LostEnergy): number => parts.reduce((sum, part) => sum + part[of], 0) / Math.max(1, parts.length);
  return { keys: mean('keys'), values: mean('values') };
}

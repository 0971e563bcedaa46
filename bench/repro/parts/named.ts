/** Settings by the names that rows of results go by. */
import { nameOf } from '../settings.ts';

export function named<T extends { readonly setting: string }>(settings: readonly T[]): T[] {
  return settings.map((entry) => ({ ...entry, setting: nameOf(entry.setting) }));
}

/** Reads the fields of a row, from parquet or JSON, and says what is wrong with them. */
import { misplaced, type Place } from './place.ts';

/** One row of a dataset with its whereabouts for errors. */
export interface Fields {
  /** The row's file and number from 0, as "data/test-00000-of-00001.parquet, row 3". */
  readonly where: string;
  has(name: string): boolean;
  text(name: string): string;
  /** At least one; single ones may be empty, as an answer to a cover without a title is. */
  texts(name: string): string[];
  integer(name: string): number;
  /** An error about this row, for the caller to throw. */
  wrong(reason: string): Error;
}

/** @param record column or key to value */
export function fieldsOf(place: Place, where: string, record: unknown): Fields {
  if (typeof record !== 'object' || record === null || Array.isArray(record))
    throw misplaced(place, `${where}: ${shown(record)} where an object was expected`);
  const values = record as Record<string, unknown>;
  const wrong = (reason: string): Error => misplaced(place, `${where}: ${reason}`);
  const unfit = (name: string, wanted: string): Error => wrong(`'${name}' is ${shown(values[name])}, wanted ${wanted}`);
  const isText = (value: unknown): value is string => typeof value === 'string' && value.trim() !== '';
  return {
    where,
    wrong,
    has: (name) => values[name] !== undefined && values[name] !== null,
    text(name) {
      const value = values[name];
      // Ids and answers such as 7 are numbers in some files.
      if (typeof value === 'number' || typeof value === 'bigint') return String(value);
      if (!isText(value)) throw unfit(name, 'a text');
      return value;
    },
    texts(name) {
      const value = values[name];
      if (!Array.isArray(value) || !value.length || !value.every((one) => typeof one === 'string')) throw unfit(name, 'a list of texts');
      return value;
    },
    integer(name) {
      const value = Number(values[name] ?? Number.NaN); // parquet gives int64 as bigint
      if (!Number.isSafeInteger(value)) throw unfit(name, 'a whole number');
      return value;
    },
  };
}

/** A value in a few words. */
function shown(value: unknown): string {
  if (value === undefined || value === null) return 'missing';
  if (value === '') return 'empty';
  const text = JSON.stringify(value, (_, part) => (typeof part === 'bigint' ? Number(part) : part)) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}...` : text;
}

/** Typed reading of a config object: a default where a field is absent, one line that names file, field and value where it is wrong. */
import { AttentionPackError } from '../errors.ts';

export class Fields {
  readonly where: string;
  readonly #fields: Readonly<Record<string, unknown>>;

  /** @param where how errors name the object, e.g. `config.json: text_config`. */
  constructor(value: unknown, where: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new AttentionPackError(`${where} is ${show(value)}; it must be an object`);
    }
    this.#fields = value as Record<string, unknown>;
    this.where = where;
  }

  has(name: string): boolean {
    return this.#fields[name] !== undefined && this.#fields[name] !== null;
  }

  raw(name: string, fallback?: unknown): { value: unknown; where: string } {
    return { value: this.has(name) ? this.#fields[name] : fallback, where: `${this.where}: ${name}` };
  }

  object(name: string): Fields {
    const { value, where } = this.raw(name);
    return new Fields(value, where);
  }

  count(name: string, fallback: number): number {
    const { value, where } = this.raw(name, fallback);
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) {
      throw new AttentionPackError(`${where} is ${show(value)}; it must be a whole number of at least 1`);
    }
    return value;
  }

  number(name: string, fallback?: number): number {
    const { value, where } = this.raw(name, fallback);
    if (typeof value !== 'number' || !Number.isFinite(value))
      throw new AttentionPackError(`${where} is ${show(value)}; it must be a number`);
    return value;
  }

  boolean(name: string, fallback: boolean): boolean {
    const { value, where } = this.raw(name, fallback);
    if (typeof value !== 'boolean') throw new AttentionPackError(`${where} is ${show(value)}; it must be true or false`);
    return value;
  }

  oneOf<T extends string>(name: string, known: readonly T[], fallback?: T): T {
    const { value, where } = this.raw(name, fallback);
    const found = known.find((candidate) => candidate === value);
    if (!found) throw new AttentionPackError(`${where} is ${show(value)}; supported: ${known.join(', ')}`);
    return found;
  }
}

function show(value: unknown): string {
  return value === undefined ? 'missing' : JSON.stringify(value);
}

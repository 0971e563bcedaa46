/** The error kinds, each saying when it is thrown and when not. */

/**
 * A mistake the caller can mend: a wrong option, a missing file, a model of another shape. One line: what, the value seen, the limit, what to do.
 *
 * The command line prints the message without a stack trace and exits with 2. Never thrown for our own bugs; those are {@link assert}ions.
 */
export class AttentionPackError extends Error {
  override name = 'AttentionPackError';
}

/**
 * A file that is not what it should be: truncated, not ONNX, external data missing or outside the model's folder.
 *
 * Not thrown for a well-formed model that cannot be rewritten; that is a {@link RefusedGraphError}.
 */
export class FileFormatError extends AttentionPackError {
  override name = 'FileFormatError';
  readonly file: string;

  constructor(file: string, reason: string, options?: ErrorOptions) {
    super(`${file}: ${reason}`, options);
    this.file = file;
  }
}

/** Why one node could not be rewritten. */
export interface Refusal {
  /** Name of the ONNX node, or of its first output where it has none. */
  readonly node: string;
  readonly reason: string;
}

/**
 * A decoder that cannot be rewritten whole. No model is ever half rewritten: one refused attention node refuses the graph.
 *
 * Not thrown by `rewrite()`, which returns its refusals; thrown where a caller asked for a packed model and cannot have one.
 */
export class RefusedGraphError extends AttentionPackError {
  override name = 'RefusedGraphError';
  readonly refusals: readonly Refusal[];

  constructor(model: string, refusals: readonly Refusal[]) {
    const [first] = refusals;
    const more = refusals.length > 1 ? ` (and ${refusals.length - 1} more; see 'attentionpack rewrite --why')` : '';
    super(`${model} cannot be packed: ${first?.node}: ${first?.reason}${more}`);
    this.refusals = refusals;
  }
}

/** The first line of what was thrown: what other libraries say in one sentence, before their stacks and hints. */
export function firstLine(cause: unknown): string {
  const [line = ''] = String(cause instanceof Error ? cause.message : cause).split('\n');
  return line;
}

/** Our own bug, kept in production. Not for anything a caller can cause. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`attentionpack bug: ${message}`);
}

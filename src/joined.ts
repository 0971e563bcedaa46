/** Arrays one behind the other; a single one is not copied. */
export function joined<A extends Float32Array | Int32Array>(parts: readonly A[]): A {
  const [first] = parts;
  if (parts.length === 1 && first) return first;
  const Numbers = (first?.constructor ?? Float32Array) as new (length: number) => A;
  const out = new Numbers(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

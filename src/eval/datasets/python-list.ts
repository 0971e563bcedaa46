/** Reads a Python list of texts written out as Python shows it: MMMU keeps its options so. */

/** The texts of `['$6', "it's", 'a\\nb']`, or undefined if it is not such a list. */
export function pythonTexts(written: string): string[] | undefined {
  const body = written.trim().match(/^\[(.*)\]$/s)?.[1];
  if (body === undefined) return undefined;
  const item = /\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)")\s*(,|$)/sy;
  const texts: string[] = [];
  while (item.lastIndex < body.length) {
    const match = item.exec(body);
    if (!match) return body.slice(item.lastIndex).trim() === '' && texts.length === 0 ? [] : undefined;
    texts.push(unescaped(match[1] ?? match[2] ?? ''));
  }
  return texts;
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', a: '\x07', b: '\b', f: '\f', v: '\v', '0': '\0' };

function unescaped(text: string): string {
  return text.replace(/\\(?:x([\da-f]{2})|u([\da-f]{4})|U([\da-f]{8})|(.))/gis, (whole, hex2, hex4, hex8, sign: string) => {
    const code = hex2 ?? hex4 ?? hex8;
    if (code) return String.fromCodePoint(Number.parseInt(code, 16));
    if (sign === '\n') return '';
    if (`\\'"`.includes(sign)) return sign;
    return ESCAPES[sign] ?? whole; // Python leaves escapes it does not know
  });
}

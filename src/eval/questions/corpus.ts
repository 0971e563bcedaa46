/** Every word a question or an answer may hold, in all phrasings: text to train a tokenizer on. */
import { CONCEPTS } from '../drawing/assets.ts';
import { COLOUR_NAMES, PLACES } from '../drawing/scene.ts';
import { SHAPES } from '../drawing/shapes.ts';
import { WORDS } from '../drawing/words.ts';
import { plural, verb, withArticle } from './names.ts';
import { fill, LETTERS, PHRASINGS, withChoices } from './phrasings.ts';

/** Highest number of an image. */
const MAX_IMAGES = 128;

export function* corpusLines(): Generator<string> {
  const names = [...CONCEPTS, ...SHAPES];
  const phrasings = Object.values(PHRASINGS).flat();
  for (const [i, b] of names.entries()) {
    const o = names[(i + 7) % names.length] as string;
    const w = WORDS[i % WORDS.length] as string;
    const gaps = {
      a: withArticle(b),
      v: verb(b),
      b,
      o,
      p: plural(b),
      w,
      k: 1 + (i % MAX_IMAGES),
      c: COLOUR_NAMES[i % 8] as string,
      q: PLACES[i % 4] as string,
    };
    const counted = `${1 + (i % 9)} ${gaps.p}`;
    for (const phrasing of phrasings) yield fill(phrasing, { ...gaps, n: counted });
    yield* [b, gaps.p, `${b}, ${b} and ${b}`, counted, `1 ${b}`, withChoices(`what is in image ${gaps.k}?`, [b, o, b, o])];
  }
  for (const [i, word] of WORDS.entries()) {
    const next = WORDS[(i + 1) % WORDS.length] as string;
    yield* [
      word,
      `${word} ${next} ${word}`,
      `which image says ${word}?`,
      `does any image say ${word}?`,
      withChoices('read the text', [word, next, word, next]),
    ];
  }
  for (let k = 1; k <= MAX_IMAGES; k++) {
    yield* [`image ${k}`, `image ${k}:`, `yes, image ${k}`, `what is in image ${k}?`, `read image ${k}`, String(k)];
  }
  for (const value of [...COLOUR_NAMES, ...PLACES, ...LETTERS, 'yes', 'no'])
    yield* [value, withChoices(value, [value, value, value, value])];
}

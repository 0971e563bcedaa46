/** Exact match of short answers after the normalisation of the VQA challenge. */
import type { Metric } from '../task.ts';

/** 1 if the answer equals one of those taken as right once both are normalised, else 0. An answer with nothing left is wrong. */
export const exactMatch: Metric = (answer, question) => {
  const given = normaliseAnswer(answer);
  return given !== '' && question.answers.some((wanted) => normaliseAnswer(wanted) === given) ? 1 : 0;
};

const NUMBERS = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten'];
const ARTICLES = new Set(['a', 'an', 'the']);
const PUNCTUATION = [...';/[]"{}()=+\\_-><@`!'];

/**
 * An answer as the VQA challenge compares it: lower case, no punctuation, number words as digits ("none" is 0), no articles.
 *
 * After EvalAI's answer processor, which most public evaluations use, but for its list of contractions ("dont" to "don't"): both sides are
 * normalised alike, and short answers have none.
 */
export function normaliseAnswer(answer: string): string {
  const text = answer
    .toLowerCase()
    .replace(/[,?]/g, '')
    .replaceAll("'s", " 's")
    .replace(/[\n\t]/g, ' ')
    .trim();
  return withoutPunctuation(text)
    .split(/\s+/)
    .map((word) => (word === 'none' ? '0' : NUMBERS.includes(word) ? String(NUMBERS.indexOf(word)) : word))
    .filter((word) => word !== '' && !ARTICLES.has(word))
    .join(' ');
}

/** A sign that touches a space anywhere goes without trace ("yes !"); one that only stands between letters parts them ("t-shirt"). */
function withoutPunctuation(text: string): string {
  let out = text;
  for (const sign of PUNCTUATION) {
    const isLoose = text.includes(`${sign} `) || text.includes(` ${sign}`);
    out = out.replaceAll(sign, isLoose ? '' : ' ');
  }
  return out.replace(/\.(?!\d)/g, ''); // decimals keep their point
}

/** MMMU's reading of answers (Yue et al., arXiv 2311.16502; the benchmark's public `eval_utils.py`), multiple choice and open. */
import type { Metric } from '../task.ts';

/**
 * 1 if the answer is right by MMMU's rules, else 0. With choices, `answers` holds the letter; without, the wordings or numbers taken as right.
 *
 * One thing differs: where no option can be read from an answer, the public code draws one at random. We count it as wrong, so that the same
 * answers always give the same score and noise earns nothing; published figures may lie higher by up to one in four of such answers.
 */
export const mmmuAccuracy: Metric = (answer, question) => {
  if (question.choices?.length) {
    const letter = parseChoice(answer, question.choices);
    return letter !== undefined && question.answers.includes(letter) ? 1 : 0;
  }
  const wanted = question.answers.flatMap(normalised);
  const isRight = (given: string | number): boolean =>
    typeof given === 'number' ? wanted.includes(given) : wanted.some((one) => typeof one === 'string' && given.includes(one));
  return parseOpenAnswer(answer).some(isRight) ? 1 : 0;
};

/** The letter an answer chooses, or undefined; of several, the one named last. */
export function parseChoice(answer: string, choices: readonly string[]): string | undefined {
  let text = answer.trim();
  for (const sign of ",.!?;:'") text = stripped(text, sign);
  text = ` ${text} `;
  const letters = choices.map((_, i) => String.fromCharCode(65 + i));

  const forms: ((letter: string) => string)[] = [(letter) => `(${letter})`, (letter) => `${letter} `, (letter) => `${letter}.`];
  for (const [i, form] of forms.entries()) {
    const found = letters.filter((letter) => text.includes(form(letter)));
    if (found.length) return lastNamed(found, (letter) => text.lastIndexOf(i === 0 ? form(letter) : ` ${letter} `));
  }
  // The options' own words count only in a sentence: a short answer in words would match too easily.
  if (text.trim().split(/\s+/).length <= 5) return undefined;
  const lower = text.toLowerCase();
  const place = (letter: string): number => lower.lastIndexOf((choices[letter.charCodeAt(0) - 65] as string).toLowerCase());
  const found = letters.filter((letter) => place(letter) >= 0);
  return found.length ? lastNamed(found, place) : undefined;
}

const LEADS = ['could be ', 'so ', 'is ', 'thus ', 'therefore ', 'final ', 'answer ', 'result '];

/** What an open answer may mean: its key phrases in lower case, and each number in them, rounded to two places. */
export function parseOpenAnswer(answer: string): (string | number)[] {
  const phrases = keyPhrases(answer);
  return [...new Set([...phrases, ...phrases.flatMap(numbersIn)].flatMap(normalised))];
}

/** Per line, the shortest rest behind a word that leads to a result; the last line may be an equation. The whole answer if there is none. */
function keyPhrases(answer: string): string[] {
  const text = stripped(answer.trim(), '.').toLowerCase();
  const lines = text.split('\n');
  const phrases: string[] = [];
  for (const [i, line] of lines.entries()) {
    const leads = i === lines.length - 1 ? [...LEADS, '='] : LEADS;
    let shortest = '';
    for (const lead of leads) {
      if (!line.includes(lead)) continue;
      const rest = line.slice(line.lastIndexOf(lead) + lead.length).trim();
      if (!shortest || rest.length < shortest.length) shortest = rest;
    }
    if (shortest && !/^[:,.!?;']$/.test(shortest)) phrases.push(shortest);
  }
  return phrases.length ? phrases : [text];
}

function numbersIn(text: string): string[] {
  const withCommas = /-?\b\d{1,3}(?:,\d{3})+\b/g;
  const scientific = /-?\d+(?:\.\d+)?[eE][+-]?\d+/g;
  const simple = /-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])/g;
  return [withCommas, scientific, simple].flatMap((pattern) => text.match(pattern) ?? []);
}

/** A number to two places, or lower-case text; one letter gets a space on either side, or it would be found in every word. */
function normalised(text: string): (string | number)[] {
  const trimmed = text.trim();
  const digits = trimmed.replaceAll(',', '');
  if (/^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i.test(digits)) return [rounded(Number(digits))];
  const lower = trimmed.toLowerCase();
  return lower.length === 1 ? [` ${lower}`, `${lower} `] : [lower];
}

/** To two places, halves to even as Python's `round` does; only multiples of 1/8 can be exact halves of a hundredth. */
function rounded(value: number): number {
  const isHalf = Number.isInteger(value * 8) && Math.abs(value * 8) % 2 === 1;
  if (isHalf) return (2 * Math.round((value * 100) / 2)) / 100;
  return Number(value.toFixed(2));
}

function stripped(text: string, sign: string): string {
  let [start, end] = [0, text.length];
  while (start < end && text[start] === sign) start++;
  while (end > start && text[end - 1] === sign) end--;
  return text.slice(start, end);
}

/** The first letter among those whose place lies furthest back. */
function lastNamed(letters: readonly string[], place: (letter: string) => number): string {
  return letters.reduce((best, letter) => (place(letter) > place(best) ? letter : best));
}

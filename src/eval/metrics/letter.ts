/** Accuracy of a multiple choice answered with an option's letter, the paper's metric for A-OKVQA. */
import { assert } from '../../errors.ts';
import type { Metric } from '../task.ts';

/** 1 if the answer names the right letter, else 0; `question.answers` hold the right letters. An answer without a letter is wrong, never guessed. */
export const letterAccuracy: Metric = (answer, question) => {
  const { choices = [], answers } = question;
  assert(choices.length > 0, `a multiple choice without choices: ${question.text}`);
  const letter = letterOf(answer, choices);
  return letter !== undefined && answers.includes(letter) ? 1 : 0;
};

/**
 * The letter an answer names, or undefined.
 *
 * Forms taken, in this order, as LLaVA's and lmms-eval's evaluations of ScienceQA do, and some more of the same sort:
 * the letter alone in either case ("B", "b.", "(B)", "**B**"); the letter at the start, set off ("B. a bus", "(B) a bus", "B: a bus");
 * the letter and its own option ("B a bus"); "answer is B", "Answer: (B)", "option B", if all of these name one letter.
 *
 * Not taken: the option's words without a letter, since the prompt asks for the letter; and a letter that may be a word ("A bus" is an
 * article unless option A is "bus").
 *
 * @param choices options in the order of their letters
 */
export function letterOf(answer: string, choices: readonly string[]): string | undefined {
  const last = String.fromCharCode(64 + choices.length);
  const text = answer.trim();
  const known = (letter: string | undefined): string | undefined => (letter && letter >= 'A' && letter <= last ? letter : undefined);

  const alone = text.match(/^[*_"'([{]*([A-Za-z])[*_"')\]}.,:;!]*$/)?.[1];
  if (alone) return known(alone.toUpperCase());

  const leading = text.match(/^[*_"']*(?:[([]([A-Z])[)\]]|([A-Z])[*_]*[).:,])/);
  if (leading) return known(leading[1] ?? leading[2]);

  const spaced = text.match(/^([A-Z])\s+(.+)$/s);
  const option = spaced?.[1] && choices[spaced[1].charCodeAt(0) - 65];
  if (spaced && option && plain(option) === plain(spaced[2] ?? '')) return spaced[1];

  // Case counts, since "a" is a word; so are A and I before another word.
  const named = /\b(?:[Aa]nswer(?: is|:)|ANSWER:|[Oo]ption|[Cc]hoice):?\s*[*_"'([]*([A-Z])(?![A-Za-z0-9'])(?!(?<=[AI])\s+[a-z])/g;
  const said = [...text.matchAll(named)].map((match) => match[1]);
  return new Set(said).size === 1 ? known(said[0]) : undefined;
}

function plain(text: string): string {
  return text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();
}

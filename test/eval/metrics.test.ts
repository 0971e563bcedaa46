import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  exactMatch,
  letterAccuracy,
  letterOf,
  mmmuAccuracy,
  normaliseAnswer,
  parseChoice,
  parseOpenAnswer,
  rougeL,
  rougeLF1,
} from '../../src/eval/metrics.ts';
import type { Question } from '../../src/eval/task.ts';

interface Goldens {
  rouge: [answer: string, wanted: string, f1: number][];
  exact: [answer: string, normalised: string][];
  choice: [answer: string, choices: string[], letter: string | null][];
  open: [answer: string, wanted: string | string[], parsed: (string | number)[], right: boolean][];
}

/** From the public Python packages; `goldens.py` beside it wrote them. */
const goldens = JSON.parse(readFileSync(new URL('../fixtures/metrics/goldens.json', import.meta.url), 'utf8')) as Goldens;

const question = (answers: string[], choices?: string[]): Question => ({ text: 'What is it?', answers, choices });
const words = fc
  .array(fc.constantFrom('the', 'cat', 'Sat.', 'on', 'a-mat', '3.5', 'é', '(B)', '\n'), { maxLength: 8 })
  .map((parts) => parts.join(' '));

describe('ROUGE-L', () => {
  test(`agrees with Google's rouge_score on ${goldens.rouge.length} pairs`, () => {
    for (const [answer, wanted, f1] of goldens.rouge)
      expect(Math.abs(rougeLF1(answer, wanted) - f1), `${answer} | ${wanted}`).toBeLessThan(1e-12);
  });

  test('lies in [0, 1], is symmetric, and 1 for a text with words against itself', () => {
    fc.assert(
      fc.property(words, words, (a, b) => {
        const f1 = rougeLF1(a, b);
        expect(f1).toBeGreaterThanOrEqual(0);
        expect(f1).toBeLessThanOrEqual(1);
        expect(rougeLF1(b, a)).toBeCloseTo(f1, 12);
        expect(rougeLF1(a, a)).toBe(/[a-z0-9]/i.test(a) ? 1 : 0);
      }),
      { seed: 11 },
    );
  });

  test('takes the reference that fits best, and none is 0', () => {
    expect(rougeL('a red bus', question(['a car', 'red bus']))).toBeCloseTo(0.8, 12);
    expect(rougeL('a red bus', question([]))).toBe(0);
  });
});

describe('letters', () => {
  const choices = ['bus', 'car', 'a tram', 'plane'];

  test.each([
    ['B', 'B'],
    [' b ', 'B'],
    ['(B)', 'B'],
    ['**B**', 'B'],
    ['B.', 'B'],
    ['B. car', 'B'],
    ['B) car', 'B'],
    ['(B) car', 'B'],
    ['B: car', 'B'],
    ['B car', 'B'],
    ['B, the car', 'B'],
    ['B.\nIt is red.', 'B'],
    ['The answer is B.', 'B'],
    ['The answer is (B) car', 'B'],
    ['the correct answer is: B', 'B'],
    ['Answer: B', 'B'],
    ['Option C', 'C'],
    ['The answer is B because it is red.', 'B'],
    ['**Answer: (D)**', 'D'],
    ['A bus', 'A'],
  ])('%j names %s', (answer, letter) => expect(letterOf(answer, choices)).toBe(letter));

  test.each([
    '',
    'car',
    'E',
    '(F) car',
    'A dog',
    'A man is driving a car',
    'The answer is a bus',
    'The answer is A bus', // an article as like as a letter
    'The answer is B or the answer is C',
    'Bus',
    "D'oh",
    'BC',
    '42',
  ])('%j names none', (answer) => expect(letterOf(answer, choices)).toBeUndefined());

  test('accuracy is 1 for the right letter only, and a question without choices is our own bug', () => {
    expect(letterAccuracy('B. car', question(['B'], choices))).toBe(1);
    expect(letterAccuracy('C', question(['B'], choices))).toBe(0);
    expect(letterAccuracy('car', question(['B'], choices))).toBe(0);
    expect(() => letterAccuracy('B', question(['B']))).toThrow('attentionpack bug: a multiple choice without choices');
  });

  test('every letter of a choice is read back from every common form, and no other is', () => {
    const forms = [(l: string) => l, (l: string) => l.toLowerCase(), (l: string) => `(${l})`, (l: string) => `${l}. thing`];
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 26 }), fc.nat(25), fc.constantFrom(...forms), (count, index, form) => {
        const letter = String.fromCharCode(65 + index);
        expect(letterOf(form(letter), Array(count).fill('thing'))).toBe(index < count ? letter : undefined);
      }),
      { seed: 12 },
    );
  });
});

describe('exact match', () => {
  test(`normalises as EvalAI's processor does on ${goldens.exact.length} answers`, () => {
    for (const [answer, normalised] of goldens.exact) expect(normaliseAnswer(answer), JSON.stringify(answer)).toBe(normalised);
  });

  test('forgives case, articles and punctuation, not other words; nothing matches nothing', () => {
    expect(exactMatch('A Dog.', question(['cat', 'dog']))).toBe(1);
    expect(exactMatch('Two', question(['2']))).toBe(1);
    expect(exactMatch('dogs', question(['dog']))).toBe(0);
    expect(exactMatch('the', question(['a']))).toBe(0);
  });

  test('is symmetric', () => {
    fc.assert(
      fc.property(words, words, (a, b) => {
        expect(exactMatch(a, question([b]))).toBe(exactMatch(b, question([a])));
      }),
      { seed: 13 },
    );
  });
});

describe("MMMU's answers", () => {
  test(`choices are read as the public code does, ${goldens.choice.length} answers; its random draws are undefined`, () => {
    for (const [answer, choices, letter] of goldens.choice) expect(parseChoice(answer, choices), answer).toBe(letter ?? undefined);
  });

  test(`open answers are read and judged as the public code does, ${goldens.open.length} answers`, () => {
    for (const [answer, wanted, parsed, right] of goldens.open) {
      const byName = (a: string | number, b: string | number): number => (String(a) < String(b) ? -1 : 1);
      expect([...parseOpenAnswer(answer)].sort(byName), answer).toEqual([...parsed].sort(byName));
      expect(mmmuAccuracy(answer, question([wanted].flat())), `${answer} | ${wanted}`).toBe(right ? 1 : 0);
    }
  });

  test('with choices the letter counts, without them the wording; an unreadable answer is wrong', () => {
    expect(mmmuAccuracy('The answer is (B).', question(['B'], ['1', '2']))).toBe(1);
    expect(mmmuAccuracy('perhaps', question(['A'], ['1', '2']))).toBe(0);
    expect(mmmuAccuracy('x = 1,000', question(['1000']))).toBe(1);
  });
});

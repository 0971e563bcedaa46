/** ROUGE-L: how much of an answer stands in the reference in the same order (Lin 2004), the paper's metric for OCR-VQA. */
import { l } from 'js-rouge';
import type { Metric } from '../task.ts';

/** F1 of ROUGE-L against the answer that fits best. 0 to 1. */
export const rougeL: Metric = (answer, question) => Math.max(0, ...question.answers.map((wanted) => rougeLF1(answer, wanted)));

/**
 * F1 over the longest common subsequence of words, as Google's `rouge_score` computes `rougeL` without a stemmer: lower case, words of a-z and
 * 0-9, the whole text as one sentence. Symmetric; 0 if either text has no word.
 *
 * js-rouge's own tokeniser and sentence splitter give other figures (it keeps punctuation as words and unites matches over sentences), so both
 * are replaced. Letters outside a-z separate words, in Google's package as well: answers in other scripts score 0.
 */
export function rougeLF1(answer: string, wanted: string): number {
  if (!words(answer).length || !words(wanted).length) return 0; // js-rouge refuses empty texts
  return l(answer, wanted, { tokenizer: words, segmenter: (text) => [text] });
}

function words(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
}

/** Questions about drawn pictures: what can be asked about a context of scenes, in fixed sentences, with the one right answer. */
export { type Asked, ask, QUESTION_TYPES, type QuestionType } from './ask.ts';
export { Contents, describe, exclusiveKeys } from './contents.ts';
export { corpusLines } from './corpus.ts';
export { LETTERS } from './phrasings.ts';

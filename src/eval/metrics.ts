/** How answers are judged and scores summed up; one file per metric in `metrics/`. */
export { exactMatch, normaliseAnswer } from './metrics/exact-match.ts';
export { type Interval, interval, type PairedDifference, pairedDifference, wilson } from './metrics/interval.ts';
export { letterAccuracy, letterOf } from './metrics/letter.ts';
export { mmmuAccuracy, parseChoice, parseOpenAnswer } from './metrics/mmmu.ts';
export { rougeL, rougeLF1 } from './metrics/rouge.ts';

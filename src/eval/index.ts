/** `attentionpack/eval`: cache settings of a model measured on tasks. */

export type { HeldBytes } from '../compare/held.ts';
export { DATASETS, type Dataset, type DatasetOptions, openDataset } from './datasets/index.ts';
export { type FindOptions, findTasks, listTasks } from './find-tasks.ts';
export type { RefusedSetting } from './holders.ts';
export type { JournalIdentity } from './journal.ts';
export * from './metrics.ts';
export { htmlReport } from './report.ts';
export { type EvaluatedTask, type EvaluateOptions, type Evaluation, type EvaluationProgress, evaluate } from './run.ts';
export { type CacheSetting, parseSettings, SETTINGS } from './settings.ts';
export type { ByteFigures, EvaluationRow, LoyaltyFigures, OverallRow } from './summary.ts';
export type { Context, Metric, Question, Task } from './task.ts';

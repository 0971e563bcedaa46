/** The evaluation set beside the embedded model as a task: forty contexts of four pictures with seven questions each (models/pack-mha/eval). */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { EMBEDDED_MODEL } from '../../src/cli/embedded.ts';
import { readImages } from '../../src/cli/models.ts';
import type { Context, Task } from '../../src/eval/task.ts';

interface EvalFile {
  readonly contexts: readonly {
    readonly images: readonly string[];
    readonly questions: readonly { readonly type: string; readonly question: string; readonly answer: string }[];
  }[];
}

const MAX_NEW_TOKENS = 48;

export function embeddedTask(): Task {
  const folder = path.join(EMBEDDED_MODEL, 'eval');
  const file = JSON.parse(readFileSync(path.join(folder, 'eval.json'), 'utf8')) as EvalFile;
  const contexts = file.contexts.map(
    ({ images, questions }, i): Context => ({
      id: String(i),
      numImages: images.length,
      images: () => readImages(images.map((image) => path.join(folder, image))),
      questions: questions.map(({ type, question, answer }) => ({ text: question, answers: [answer], kind: type })),
    }),
  );
  return {
    name: 'embedded',
    about: 'forty contexts of four pictures with seven questions each, of the model that comes with the package',
    metricName: 'accuracy',
    // The answers are the model's own wording, so nothing is normalised.
    metric: (answer, { answers }) => (answers.includes(answer) ? 1 : 0),
    maxNewTokens: MAX_NEW_TOKENS,
    size: contexts.length,
    async *contexts(from = 0) {
      yield* contexts.slice(from);
    },
  };
}

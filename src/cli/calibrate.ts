/**
 * `attentionpack calibrate <model>`: asks a model about pictures, gathers what its queries ask for, and leaves that beside the model, where `packed()` finds it.
 *
 * That of the embedded model, again: `attentionpack calibrate embedded`.
 */
import { existsSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { defineCommand } from 'citty';
import prettyBytes from 'pretty-bytes';
import { calibrate } from '../calibrate.ts';
import { AttentionPackError } from '../errors.ts';
import { FRAMES, MOMENTS_FILE, writeMoments } from '../query-moments.ts';
import { STATE } from '../state.ts';
import { jsonArg, wholeNumber } from './args.ts';
import { MODEL_ARGUMENT, modelNamed } from './embedded.ts';
import { dtypeOption, loadPacked, readImages } from './models.ts';
import { guarded, Progress, printJson } from './output.ts';

/** Asked of given pictures where no questions are: about what, where, how many, and what is written. */
const QUESTIONS = [
  'Describe this picture.',
  'What is the main object, and what colour is it?',
  'How many objects are there, and where are they?',
  'What is written here?',
];

export const calibrateCommand = defineCommand({
  meta: {
    name: 'calibrate',
    description: 'find out which directions of its keys a model asks for, so that bases can be the best for those',
  },
  args: {
    model: { type: 'positional', required: false, description: MODEL_ARGUMENT },
    contexts: {
      type: 'string',
      description:
        'JSON file of contexts: [{ "images": [file, ..], "questions": [text, ..] }, ..], files beside it (default: the demo of the model, else --image)',
    },
    image: {
      type: 'string',
      description: 'pictures to ask four general questions about, with commas between; each is a context of its own',
    },
    'max-new-tokens': { type: 'string', description: 'most tokens of each answer (default: 16)' },
    out: { type: 'string', description: `file to write (default: ${MOMENTS_FILE} in the model's folder)` },
    dtype: { type: 'string', description: "precision of the model (default: its own, or transformers.js's)" },
    ...jsonArg,
  },
  run: ({ args }) =>
    guarded(async () => {
      const model = modelNamed(args.model);
      const out = outFile(model, args.out);
      const contexts = contextsOf(model, args.contexts, args.image);
      const maxNewTokens = args['max-new-tokens'] === undefined ? 16 : wholeNumber('--max-new-tokens', args['max-new-tokens']);
      const progress = new Progress();
      progress.update('loading the model');
      const { packed, processor } = await loadPacked(model, { ...dtypeOption(model, args.dtype), queryMoments: true, moments: false });
      try {
        const samples = [];
        for (const { images, questions } of contexts) samples.push({ images: await readImages(images), questions });
        const { moments, questions, tokens } = await calibrate(packed, processor, samples, {
          maxNewTokens,
          onProgress: (text) => progress.update(text),
        });
        progress.done();
        writeMoments(out, moments, packed[STATE].graph.shape);
        const frames = FRAMES.filter((frame) => moments[frame]);
        const bytes = statSync(out).size;
        console.log(
          `${out}: ${prettyBytes(bytes)}, queries of ${tokens} tokens of ${questions} questions and their answers behind ${contexts.length} contexts, ${frames.map((frame) => frame.replace('_', ' ')).join(' and ')}`,
        );
        if (args.json) printJson({ out, bytes, contexts: contexts.length, questions, tokens, frames });
      } finally {
        progress.done();
        await packed.dispose();
      }
    }),
});

/** Checked before minutes of work, not after. */
function outFile(model: string, out: string | undefined): string {
  if (out === undefined) {
    if (!existsSync(model)) throw new AttentionPackError(`${model} is no folder to write ${MOMENTS_FILE} to; name a file with --out`);
    return path.join(model, MOMENTS_FILE);
  }
  if (!out.endsWith('.safetensors')) throw new AttentionPackError(`--out takes a file name that ends in .safetensors; got '${out}'`);
  if (!existsSync(path.dirname(path.resolve(out))))
    throw new AttentionPackError(`--out ${out}: the folder ${path.dirname(out)} does not exist`);
  return out;
}

interface Context {
  readonly images: readonly string[];
  readonly questions: readonly string[];
}

/** @throws {AttentionPackError} if nothing is named and the model has no demo, or a file is not as it should be */
function contextsOf(model: string, file: string | undefined, pictures: string | undefined): readonly Context[] {
  if (file !== undefined && pictures !== undefined) throw new AttentionPackError('give --contexts or --image, not both');
  if (pictures !== undefined) return pictures.split(',').map((picture) => ({ images: [picture.trim()], questions: QUESTIONS }));
  if (file !== undefined) return readContexts(file);
  const demo = path.join(model, 'demo', 'questions.json');
  if (!existsSync(demo)) throw new AttentionPackError(`${model} has no demo to calibrate with; give --contexts or --image`);
  const { images, questions } = readJson(demo) as { images: { file: string }[]; questions: { question: string }[] };
  return [
    {
      images: images.map((image) => path.join(path.dirname(demo), image.file)),
      questions: questions.map(({ question }) => question),
    },
  ];
}

function readContexts(file: string): Context[] {
  const contexts = readJson(file);
  const isTexts = (list: unknown): list is string[] =>
    Array.isArray(list) && list.length > 0 && list.every((text) => typeof text === 'string');
  if (!Array.isArray(contexts) || !contexts.length)
    throw new AttentionPackError(`--contexts ${file} must hold a list of contexts, each with images and questions`);
  return contexts.map((context: Partial<Record<keyof Context, unknown>> | null, i) => {
    const { images, questions } = context ?? {};
    if (!isTexts(images) || !isTexts(questions))
      throw new AttentionPackError(`--contexts ${file}: context ${i + 1} needs images and questions, each a list of texts`);
    return { images: images.map((image) => path.resolve(path.dirname(file), image)), questions };
  });
}

function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new AttentionPackError(`${file} cannot be read as JSON: ${(cause as Error).message}`, { cause });
  }
}

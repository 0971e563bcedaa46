/** `attentionpack run <model> "question" image...`: one question about pictures, answered as it is generated, with what the cache held. */
import { TextStreamer } from '@huggingface/transformers';
import { defineCommand } from 'citty';
import prettyBytes from 'pretty-bytes';
import { PackedCache } from '../cache.ts';
import { AttentionPackError, assert } from '../errors.ts';
import { prompt, question } from '../prompt.ts';
import { STATE } from '../state.ts';
import { printAllocation } from './allocation.ts';
import { jsonArg, needed, packingArgs, packingOptions, wholeNumber } from './args.ts';
import { MODEL_ARGUMENT, modelNamed } from './embedded.ts';
import { dtypeOption, loadPacked, readImages } from './models.ts';
import { colours, guarded, Progress, printJson } from './output.ts';

const DEFAULT_ANSWER = 256;

export const runCommand = defineCommand({
  meta: { name: 'run', description: 'ask a model about pictures through a packed cache' },
  args: {
    model: { type: 'positional', required: false, description: MODEL_ARGUMENT },
    question: { type: 'positional', required: false, description: 'what to ask' },
    dtype: { type: 'string', description: "precision of the weights, as transformers.js names it (default: the model's own)" },
    'max-new-tokens': {
      type: 'string',
      description: `longest answer in tokens (default: ${DEFAULT_ANSWER}, or what the context has left)`,
    },
    ...packingArgs,
    ...jsonArg,
  },
  run: ({ args }) =>
    guarded(async () => {
      const model = modelNamed(args.model);
      const text = needed('question', args.question);
      const files = args._.slice(2);
      if (!files.length) throw new AttentionPackError('no images given; name at least one picture file after the question');
      const asked = args['max-new-tokens'] === undefined ? undefined : wholeNumber('--max-new-tokens', args['max-new-tokens']);
      const options = { ...dtypeOption(model, args.dtype), ...packingOptions(args) };
      const images = await readImages(files);
      const progress = new Progress();
      progress.update('loading the model');
      const { packed, processor } = await loadPacked(model, options);
      progress.update('reading the images');
      const inputs = await prompt(processor, [question(text, images.length)], images);
      const { tokenizer } = processor;
      assert(tokenizer, 'a processor with a tokenizer');
      await using cache = new PackedCache(packed);
      const streamer = new TextStreamer(tokenizer, {
        skip_prompt: true,
        skip_special_tokens: true,
        callback_function: (text: string) => {
          progress.done();
          if (!args.json) process.stdout.write(text);
        },
      });
      const left = (packed[STATE].contextLength ?? Number.POSITIVE_INFINITY) - (inputs.input_ids.dims[1] ?? 0);
      const max_new_tokens = asked ?? Math.max(1, Math.min(DEFAULT_ANSWER, left));
      const start = performance.now();
      const sequences = (await packed.generate({ ...inputs, past_key_values: cache, max_new_tokens, streamer } as never)) as unknown as {
        data: BigInt64Array;
      };
      const seconds = (performance.now() - start) / 1000;
      const answer = sequences.data.subarray(inputs.input_ids.dims[1]);
      const report = cache.report();
      await packed.dispose();
      progress.done();
      if (args.json)
        printJson({
          answer: tokenizer.decode([...answer], { skip_special_tokens: true }).trim(),
          tokens: answer.length,
          seconds,
          cache: report,
        });
      else
        process.stdout.write(
          `\n${colours.dim(
            `${report.tokens} tokens, ${report.packedTokens + report.packedTextTokens} of them packed; cache ${prettyBytes(report.bytes.total)} against ${prettyBytes(report.denseFp16Bytes)} dense fp16 (${report.compression.toFixed(1)} times smaller, packed ones alone ${report.visualCompression.toFixed(1)}); ${seconds.toFixed(1)} s`,
          )}\n`,
        );
      if (!args.json) printAllocation(report);
    }),
});

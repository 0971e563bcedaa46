/** Tokenizer and processor files of a converted folder: copied, and mended where transformers.js reads other fields than Python does. */
import { copyFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { readJson } from './checkpoint.ts';
import { gridTokens, imageTokens, type LlavaShape } from './config.ts';
import { writeJson } from './output-config.ts';

type Json = Record<string, unknown>;

/** Everything of a checkpoint that is not weights, config or code. */
const COPIED =
  /^(tokenizer.*\.json|vocab\.(json|txt)|merges\.txt|special_tokens_map\.json|added_tokens\.json|generation_config\.json|chat_template.*|preprocessor_config\.json|LICENSE.*|NOTICE.*)$/;

/** Copies and mends the files; returns what a user must know: one line for each file that stays missing. */
export function writeProcessorFiles(from: string, to: string, shape: LlavaShape): string[] {
  for (const name of readdirSync(from)) if (COPIED.test(name)) copyFileSync(path.join(from, name), path.join(to, name));
  mendTokenizer(to);
  mendProcessor(from, to, shape);
  const missing = (name: string, needs: string): string[] =>
    existsSync(path.join(to, name)) ? [] : [`${name} is not in the checkpoint; ${needs} will not load`];
  return [...missing('tokenizer.json', 'AutoTokenizer'), ...missing('preprocessor_config.json', 'AutoProcessor')];
}

/** transformers.js takes the chat template from tokenizer_config.json alone; newer checkpoints keep it in a file of its own. */
function mendTokenizer(folder: string): void {
  const file = path.join(folder, 'tokenizer_config.json');
  if (!existsSync(file)) return;
  const config = readJson(file);
  if (config.chat_template) return;
  const template = separateTemplate(folder);
  if (template !== undefined) writeJson(file, { ...config, chat_template: template });
}

function separateTemplate(folder: string): unknown {
  const [jinja, json] = ['chat_template.jinja', 'chat_template.json'].map((name) => path.join(folder, name)) as [string, string];
  if (existsSync(jinja)) return readFileSync(jinja, 'utf8');
  return existsSync(json) ? readJson(json).chat_template : undefined;
}

/**
 * preprocessor_config.json (which transformers 5 keeps inside processor_config.json) and processor_config.json.
 *
 * The number of image tokens must be what the vision encoder gives. Python counts patches + num_additional_image_tokens, less one for the
 * strategy 'default'; transformers.js 4 leaves out the last. Written as the strategy 'full' with the right sum, both agree.
 */
function mendProcessor(from: string, to: string, shape: LlavaShape): void {
  const source = path.join(from, 'processor_config.json');
  const { image_processor: inner, ...processor }: Json = existsSync(source) ? readJson(source) : {};
  const file = path.join(to, 'preprocessor_config.json');
  const preprocessor = existsSync(file) ? readJson(file) : typeof inner === 'object' ? (inner as Json | null) : undefined;
  if (preprocessor) writeJson(file, { ...preprocessor, processor_class: 'LlavaProcessor', ...processorType(preprocessor, shape) });
  const { vision, projector } = shape;
  writeJson(path.join(to, 'processor_config.json'), {
    image_token: '<image>',
    ...processor,
    processor_class: 'LlavaProcessor',
    patch_size: vision.patchSize,
    num_additional_image_tokens: imageTokens(vision, projector) - gridTokens(vision),
    vision_feature_select_strategy: 'full',
  });
}

/** Image processor classes without the endings of their variants (torchvision, Pillow), or the tower's own where none is named. */
function processorType(preprocessor: Json, { vision }: LlavaShape): Json {
  const named = preprocessor.image_processor_type ?? preprocessor.feature_extractor_type;
  const own = vision.hasClassToken ? 'CLIPImageProcessor' : 'SiglipImageProcessor';
  return {
    image_processor_type: typeof named === 'string' ? named.replace(/(Fast|Pil)$/, '').replace(/FeatureExtractor$/, 'ImageProcessor') : own,
  };
}

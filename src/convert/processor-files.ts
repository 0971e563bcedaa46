/** Tokenizer and processor files of a converted folder: copied, and mended where transformers.js reads other fields than Python does. */
import { copyFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { readJson } from './checkpoint.ts';
import type { Json, Layout } from './layout.ts';
import { writeJson } from './output-config.ts';

/** Everything of a checkpoint that is not weights, config or code. */
const COPIED =
  /^(tokenizer.*\.json|vocab\.(json|txt)|merges\.txt|special_tokens_map\.json|added_tokens\.json|generation_config\.json|chat_template.*|preprocessor_config\.json|LICENSE.*|NOTICE.*)$/;

/** Copies and mends the files; returns what a user must know: one line for each file that stays missing. */
export function writeProcessorFiles(from: string, to: string, layout: Layout): string[] {
  for (const name of readdirSync(from)) if (COPIED.test(name)) copyFileSync(path.join(from, name), path.join(to, name));
  mendTokenizer(to);
  layout.writeProcessor(from, to);
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

/** The checkpoint's preprocessor_config.json, which transformers 5 keeps inside processor_config.json, and the rest of the latter. */
export function readProcessor(from: string, to: string): { preprocessor: Json | undefined; processor: Json } {
  const source = path.join(from, 'processor_config.json');
  const { image_processor: inner, ...processor }: Json = existsSync(source) ? readJson(source) : {};
  const file = path.join(to, 'preprocessor_config.json');
  const preprocessor = existsSync(file) ? readJson(file) : typeof inner === 'object' ? ((inner as Json | null) ?? undefined) : undefined;
  return { preprocessor, processor };
}

/** Image processor class without the endings of its variants (torchvision, Pillow); undefined where none is named. */
export function imageProcessorType(preprocessor: Json): string | undefined {
  const named = preprocessor.image_processor_type ?? preprocessor.feature_extractor_type;
  return typeof named === 'string' ? named.replace(/(Fast|Pil)$/, '').replace(/FeatureExtractor$/, 'ImageProcessor') : undefined;
}

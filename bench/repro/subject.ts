/** Finds out what the parts' settings go by: a model's width, its pictures and whether it reads clips. */
import path from 'node:path';
import { AutoConfig } from '@huggingface/transformers';
import { modelNamed } from '../../src/cli/embedded.ts';
import { ownPixels } from '../../src/cli/eval.ts';
import { checkModel, dtypeOption } from '../../src/cli/models.ts';
import { AttentionPackError } from '../../src/errors.ts';
import { identityOf } from '../../src/eval/identity.ts';
import { explained, folderOrId } from '../../src/hook.ts';
import type { Subject } from './part.ts';

interface TextConfig {
  readonly num_attention_heads?: number;
  readonly num_key_value_heads?: number;
  readonly hidden_size?: number;
  readonly head_dim?: number;
}

interface Config extends TextConfig {
  readonly text_config?: TextConfig;
  readonly vision_config?: { readonly temporal_patch_size?: number };
}

/** @throws {AttentionPackError} if there is no such model, or its configuration does not say how wide its keys are */
export async function subjectOf(argument: string, threads: number): Promise<Subject> {
  const model = modelNamed(argument);
  checkModel(model);
  const config = (await explained(model, () => AutoConfig.from_pretrained(folderOrId(model)))) as unknown as Config;
  const dtype = dtypeOption(model, undefined);
  const identity = identityOf(model, typeof dtype.dtype === 'string' ? dtype.dtype : undefined);
  return {
    model,
    name: path.basename(identity.model),
    load: { ...dtype, session_options: { intraOpNumThreads: threads } },
    identity,
    width: widthOf(model, config),
    pixels: ownPixels(model),
    readsClips: (config.vision_config?.temporal_patch_size ?? 1) > 1,
  };
}

function widthOf(model: string, config: Config): number {
  const { num_attention_heads: heads, num_key_value_heads: kvHeads = heads, hidden_size: hidden, head_dim } = config.text_config ?? config;
  const headDim = head_dim ?? (hidden !== undefined && heads !== undefined ? hidden / heads : undefined);
  if (kvHeads === undefined || headDim === undefined)
    throw new AttentionPackError(`the configuration of ${model} does not say how many key/value heads it has, and how wide`);
  return kvHeads * headDim;
}

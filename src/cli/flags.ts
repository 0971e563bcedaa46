/** Refuses options a command does not have: the parser would pass over a misspelt one and take its value for a picture. */
import type { ArgsDef } from 'citty';
import { AttentionPackError } from '../errors.ts';

/**
 * @param args what comes behind the command's name, up to `--`
 * @throws {AttentionPackError} for an option the command does not have, or one without its value
 */
export function checkFlags(command: string, definitions: ArgsDef, args: readonly string[]): void {
  const known = Object.entries(definitions).filter(([, { type }]) => type !== 'positional');
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? '';
    if (!arg.startsWith('-') || arg === '-') continue;
    const [flag = '', value] = arg.split('=', 2);
    const found = known.find(([name, { type }]) => flag === `--${name}` || (type === 'boolean' && flag === `--no-${name}`));
    if (!found) {
      const names = known.map(([name]) => `--${name}`).join(', ');
      const asText = /\s/.test(arg) ? '; put -- before text that begins with a dash' : '';
      throw new AttentionPackError(`${command} has no option '${flag}'; it has ${names}${asText}`);
    }
    if (found[1].type === 'boolean') continue;
    const given = value ?? args[++i];
    if (given === undefined || given === '') throw new AttentionPackError(`${flag} needs a value; see 'attentionpack ${command} --help'`);
  }
}

/** Finds the command that is called, one file per command, loaded when it is; checks its options, prints help. */
import { stripVTControlCharacters } from 'node:util';
import { type ArgsDef, type CommandDef, defineCommand, renderUsage, runCommand } from 'citty';
import packageJson from '../../package.json' with { type: 'json' };
import { AttentionPackError } from '../errors.ts';
import { checkFlags } from './flags.ts';
import { guarded } from './output.ts';

/** A command with whatever arguments it has. */
type Command = CommandDef<ArgsDef>;

const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  demo: () => import('./demo.ts').then((module) => module.demoCommand as Command),
  run: () => import('./run.ts').then((module) => module.runCommand as Command),
  eval: () => import('./eval.ts').then((module) => module.evalCommand as Command),
  inspect: () => import('./inspect.ts').then((module) => module.inspectCommand as Command),
  rewrite: () => import('./rewrite.ts').then((module) => module.rewriteCommand as Command),
  calibrate: () => import('./calibrate.ts').then((module) => module.calibrateCommand as Command),
  convert: () => import('./convert.ts').then((module) => module.convertCommand as Command),
};

const main = defineCommand({
  meta: { name: 'attentionpack', version: packageJson.version, description: packageJson.description },
  subCommands: COMMANDS,
});

/** Runs the command line `args`; sets the exit code and never throws. */
export function start(args: readonly string[]): Promise<void> {
  return guarded(() => call(args));
}

async function call([name, ...rest]: readonly string[]): Promise<void> {
  if (name === '--version' || name === '-v') return console.log(packageJson.version);
  if (name === '--help' || name === '-h' || name === 'help') return printUsage(main);
  const names = Object.keys(COMMANDS).join(', ');
  if (name === undefined) throw new AttentionPackError(`no command given; use one of ${names}, or --help`);
  const load = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (!load) throw new AttentionPackError(`'${name}' is not a command; use one of ${names}`);
  const command = await load();
  const ours = rest.includes('--') ? rest.slice(0, rest.indexOf('--')) : rest;
  if (ours.includes('--help') || ours.includes('-h')) return printUsage(command);
  checkFlags(name, (await command.args) as ArgsDef, ours);
  await runCommand(command, { rawArgs: rest });
}

/** The parser colours its help whether or not someone sees colours. */
async function printUsage(command: Command): Promise<void> {
  const usage = await renderUsage(command, command === main ? undefined : main);
  console.log(process.stdout.isTTY ? usage : stripVTControlCharacters(usage));
}

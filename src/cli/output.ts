/** How commands speak: tables and progress for people on stderr and stdout, one JSON line last for programs, one line for errors. */
import { stripVTControlCharacters } from 'node:util';
import Table from 'cli-table3';
import picocolors from 'picocolors';
import { AttentionPackError } from '../errors.ts';

/** Colours on a terminal only: picocolors alone would also colour pipes wherever CI is set. NO_COLOR turns them off everywhere. */
export const colours: ReturnType<typeof picocolors.createColors> = picocolors.createColors(
  process.stdout.isTTY === true && picocolors.isColorSupported,
);
const errorColours = picocolors.createColors(process.stderr.isTTY === true && picocolors.isColorSupported);

/** Exit code for a mistake of the caller's. */
const CALLER_ERROR = 2;

const CLEAR_LINE = '\r\x1b[2K';

/** Columns of output where stdout is no terminal. */
const DEFAULT_WIDTH = 120;

/** Prints a table on stdout, as wide as the terminal at most; long cells wrap. */
export function printTable(head: readonly string[], rows: readonly (readonly (string | number)[])[]): void {
  const cells = rows.map((row) => row.map(String));
  const colWidths = columnWidths([head, ...cells.map((row) => row.map(stripVTControlCharacters))], process.stdout.columns ?? DEFAULT_WIDTH);
  const table = new Table({
    head: head.map((cell) => colours.bold(cell)),
    style: { head: [], border: [], compact: true },
    colWidths,
    wordWrap: true,
  });
  table.push(...cells);
  console.log(table.toString());
}

/** Natural widths, the widest columns cut down until the table fits. */
function columnWidths(rows: readonly (readonly string[])[], limit: number): number[] {
  const padding = 2;
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)) + padding);
  const least = 12;
  let excess = widths.reduce((sum, width) => sum + width, widths.length + 1) - limit;
  while (excess > 0) {
    const widest = widths.indexOf(Math.max(...widths));
    if ((widths[widest] ?? 0) <= least) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
    excess--;
  }
  return widths;
}

/** Prints the machine-readable result; call it last, so that it is the last line of stdout. */
export function printJson(result: unknown): void {
  console.log(JSON.stringify(result));
}

/** Progress on stderr: rewritten in place on a terminal, a line at most every five seconds, and none before that, elsewhere. */
export class Progress {
  readonly #isLive = process.stderr.isTTY === true;
  #lastLine = Date.now();
  #open = false;

  update(text: string): void {
    if (this.#isLive) {
      process.stderr.write(`${CLEAR_LINE}${errorColours.dim(text)}`);
      this.#open = true;
    } else if (Date.now() - this.#lastLine > 5000) {
      process.stderr.write(`${text}\n`);
      this.#lastLine = Date.now();
    }
  }

  done(): void {
    if (this.#open) process.stderr.write(CLEAR_LINE);
    this.#open = false;
  }
}

/** Runs a command; a caller's mistake becomes one line on stderr and exit code 2, our own bugs keep their stack and exit with 1. */
export async function guarded(run: () => Promise<void>): Promise<void> {
  try {
    await run();
  } catch (error) {
    if (process.stderr.isTTY) process.stderr.write(CLEAR_LINE); // progress that was under way
    if (error instanceof AttentionPackError) {
      process.stderr.write(`${errorColours.red('error:')} ${error.message}\n`);
      process.exitCode = CALLER_ERROR;
    } else {
      process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
      process.exitCode = 1;
    }
  }
}

/** Why a presentation was not accepted and what to do next, with the words for clerks and citizens. */

import { NEXT_STEPS, REASONS } from "./gen/words.js";

/** The languages that there are words in. */
export type Language = "zh" | "en";

/** Why a presentation was not accepted, or why the gateway could not tell. UNRECOGNISED: this client is older than it. */
export type Reason = keyof typeof REASONS | "UNRECOGNISED";

/** Every reason by its name, so that a misspelt one does not compile: `Reason.EXPIRED`. */
export const Reason = names<Reason>([...Object.keys(REASONS), "UNRECOGNISED"]);

/** What whoever asked should do next. */
export type NextStep = keyof typeof NEXT_STEPS;

/** Every next step by its name. */
export const NextStep = names<NextStep>(Object.keys(NEXT_STEPS));

/** A reason in plain words. */
export interface ReasonText {
  /** What is the matter. */
  readonly what: string;
  /** What to do next. */
  readonly nextStep: string;
}

const UNRECOGNISED = {
  zh: "网关给出的原因是本程序尚不认识的。",
  en: "The gateway gave a reason that this program does not know yet.",
} as const;

/** Gives the words for a reason, for whoever stands at the counter. */
export function reasonText(reason: Reason, language: Language): ReasonText {
  return reason === "UNRECOGNISED"
    ? { what: UNRECOGNISED[language], nextStep: NEXT_STEPS.CALL_SUPPORT[language] }
    : REASONS[reason][language];
}

/** Gives the words for a next step. */
export function nextStepText(step: NextStep, language: Language): string {
  return NEXT_STEPS[step][language];
}

const REASONS_BY_NUMBER = byNumber<Reason>(REASONS);
const NEXT_STEPS_BY_NUMBER = byNumber<NextStep>(NEXT_STEPS);

/** @internal */
export function reasonOf(number: number): Reason {
  return REASONS_BY_NUMBER.get(number) ?? "UNRECOGNISED";
}

/** @internal */
export function nextStepOf(number: number): NextStep {
  return NEXT_STEPS_BY_NUMBER.get(number) ?? "CALL_SUPPORT";
}

function names<Name extends string>(all: readonly string[]): { readonly [Each in Name]: Each } {
  return Object.freeze(Object.fromEntries(all.map((each) => [each, each]))) as { readonly [Each in Name]: Each };
}

function byNumber<Name extends string>(table: { readonly [name: string]: { readonly number: number } }) {
  return new Map(Object.entries(table).map(([name, { number }]) => [number, name as Name]));
}

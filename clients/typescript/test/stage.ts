/** The real federation that tests run against, where there is one: `.venv/bin/python -m tests.clients.stage`, in the root of the checkout, starts it. */

import type { JsonWebKey } from "node:crypto";
import { type Challenge, Profile, RecognitionClient } from "recognition-client";

const CONTROL = process.env.MRG_STAGE;

/** For tests that need it. */
export const STAGED = CONTROL === undefined ? { skip: "MRG_STAGE names no stage" } : {};

export async function get<Answer>(path: string): Promise<Answer> {
  return read(await fetch(`${CONTROL}${path}`));
}

export async function post<Answer>(path: string, body: object = {}): Promise<Answer> {
  return read(await fetch(`${CONTROL}${path}`, { method: "POST", body: JSON.stringify(body) }));
}

async function read<Answer>(response: Response): Promise<Answer> {
  const answer = (await response.json()) as Answer & { error?: string };
  if (!response.ok) {
    throw new Error(answer.error);
  }
  return answer;
}

/** One of the stage's clients, and its matter. */
export interface Service {
  readonly client: RecognitionClient;
  readonly matter: string;
}

export async function service(name: "hukou" | "court" | "small"): Promise<Service> {
  const profiles = await get<Record<string, string>>("/profiles");
  const matters = await get<Record<string, string>>("/matters");
  return { client: new RecognitionClient(await Profile.read(profiles[name] ?? "")), matter: matters[name] ?? "" };
}

export async function presentation({ nonce, audience }: Challenge, kind?: string): Promise<string> {
  return (await post<{ presentation: string }>("/present", { nonce, audience, ...(kind && { kind }) })).presentation;
}

export async function assertions({ client, matter }: Service, count: number): Promise<string[]> {
  const { audience } = await client.challenge(matter);
  return (await post<{ assertions: string[] }>("/assertions", { audience, count })).assertions;
}

export async function holder(): Promise<{ credential: string; holder_key: JsonWebKey }> {
  return get("/holder");
}

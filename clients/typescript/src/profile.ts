/** How a service reaches its gateway: what provisioning wrote. */

import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { parse, type TomlTable } from "smol-toml";

/** The gateway's address, and the files (PEM) by which both sides of the connection know each other. */
export class Profile {
  /** host:port of the gateway. */
  readonly address: string;
  /** The CA that the gateway's certificate must come from. */
  readonly ca: string;
  /** This service's certificate. */
  readonly certificate: string;
  /** Its private key. */
  readonly privateKey: string;

  /** @throws TypeError if one of them is not a string, or is empty. */
  constructor(files: { address: string; ca: string; certificate: string; privateKey: string }) {
    this.address = files.address;
    this.ca = files.ca;
    this.certificate = files.certificate;
    this.privateKey = files.privateKey;
    for (const [name, value] of Object.entries(this)) {
      if (typeof value !== "string" || value === "") {
        throw new TypeError(`a profile's ${name} is missing, empty or not a string`);
      }
    }
  }

  /**
   * Reads a profile (TOML). Names of files in it are relative to it.
   *
   * @throws Error if it cannot be read, or lacks something.
   */
  static async read(file: string): Promise<Profile> {
    const content = readToml(file, await readFile(file, "utf8"));
    const entry = (name: string): string => {
      const value = content[name];
      if (typeof value !== "string" || value === "") {
        throw new Error(`${file}: "${name}" is missing, empty or not a string`);
      }
      return value;
    };
    const path = (name: string): string => resolve(dirname(file), entry(name));
    return new Profile({
      address: entry("address"),
      ca: path("ca"),
      certificate: path("certificate"),
      privateKey: path("private_key"),
    });
  }
}

function readToml(file: string, text: string): TomlTable {
  try {
    return parse(text);
  } catch (error) {
    throw new Error(`${file} is not TOML: ${error instanceof Error ? error.message : error}`, { cause: error });
  }
}

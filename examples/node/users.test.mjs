// Test users for a suite in JavaScript. It starts its own emulator, creates users from files, and calls
// the API with fetch. Run it with `node --test examples/node`. docs/testing.md shows Playwright and Appium.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, beforeEach, test } from "node:test";

const RECONCILE = process.env.RECONCILE ?? "reconcile";
const folder = mkdtempSync(join(tmpdir(), "users-"));
const environment = { ...process.env, EMULATOR_KEY: "anything" };
let emulator;
let url;

before(async () => {
  emulator = spawn(RECONCILE, ["emulator", "--debug"], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: emulator.stdout })) {
    url = line.replace("listening on ", "");
    break;
  }
  mkdirSync(join(folder, "profiles"));
  writeFileSync(
    join(folder, "reconcile.yaml"),
    `version: 1
environments:
  tests:
    api: {url: "${url}", key_env: EMULATOR_KEY, rate: 1000/s}
`,
  );
  writeFileSync(
    join(folder, "profiles", "users.yaml"),
    `for_each: 3
customer_user_id: "user-{index}-{run}-{worker}"
custom_attributes: {tier: gold}
access_levels: {premium: {for: 2h}}
meta: {labels: [qa], ttl: 2h, exclusive: [custom_attributes]}
`,
  );
});

after(() => {
  emulator.kill();
  rmSync(folder, { recursive: true });
});

/** Runs a command of reconcile and returns its events. */
function reconcile(...words) {
  const names = ["--run", "r1", "--worker", process.env.TEST_WORKER_INDEX ?? "0"];
  const done = spawnSync(RECONCILE, [...names, ...words, "--json"], {
    cwd: folder,
    env: environment,
    encoding: "utf-8",
  });
  assert.equal(done.status, 0, done.stderr);
  return done.stdout.trim().split("\n").map((line) => JSON.parse(line));
}

/** Calls the API as the app's back end does; returns the profile. */
async function profile(user, method, body) {
  const answer = await fetch(`${url}/api/v2/server-side-api/profile/`, {
    method,
    headers: {
      Authorization: "Api-Key anything",
      "Content-Type": "application/json",
      "adapty-customer-user-id": user,
    },
    body: body && JSON.stringify(body),
  });
  assert.equal(answer.status, 200);
  return (await answer.json()).data;
}

/** The same; returns the custom attributes. */
async function api(user, method, body) {
  const { custom_attributes: attributes } = await profile(user, method, body);
  return Object.fromEntries(attributes.map(({ key, value }) => [key, value]));
}

/** Plants purchases ("seed") or moves the clock ("advance") of the emulator. */
async function debug(what, body) {
  const answer = await fetch(`${url}/debug/${what}/`, { method: "POST", body: JSON.stringify(body) });
  assert.equal(answer.status, 200, await answer.clone().text());
  return answer.json();
}

/** Whether a user has an access level at a time of the emulator. */
async function hasAccess(user, level, now) {
  const { access_levels: levels } = await profile(user, "GET");
  return levels.some(
    ({ access_level_id: id, starts_at: start, expires_at: end }) =>
      id === level && (!start || new Date(start) <= now) && (!end || now < new Date(end)),
  );
}

beforeEach(() => {
  reconcile("apply", "--auto-approve", "--reassert", "--select", "label:qa");
});

test("every declared user exists and is reported", async () => {
  const events = reconcile("apply", "--auto-approve", "--reassert");
  const users = events.filter(({ type }) => type === "change").map(({ address }) => address);

  assert.deepEqual(users, ["user-1-r1-0", "user-2-r1-0", "user-3-r1-0"]);
  assert.deepEqual(await api("user-2-r1-0", "GET"), { tier: "gold" });
});

test("changes by the app are gone in the next test", async () => {
  const added = { custom_attributes: [{ key: "seen", value: 1 }, { key: "tier", value: "none" }] };

  assert.deepEqual(await api("user-1-r1-0", "PATCH", added), { tier: "none", seen: 1 });
});

test("the user is as declared again", async () => {
  assert.deepEqual(await api("user-1-r1-0", "GET"), { tier: "gold" });
});

test("every user has premium", async () => {
  assert.ok(await hasAccess("user-1-r1-0", "premium", new Date()));
});

test("the access of a purchase ends", async () => {
  const user = "user-3-r1-0";
  const bought = { store: "app_store", store_product_id: "monthly", access_level: "pro" };
  const purchases = [{ ...bought, expires_at: "now+30d" }];
  await debug("seed", { access_levels: ["pro"], profiles: [{ customer_user_id: user, purchases }] });

  assert.ok(await hasAccess(user, "pro", new Date()));
  const { now } = await debug("advance", { days: 31 });
  assert.ok(!(await hasAccess(user, "pro", new Date(now))));
});

// Guarded transfers by Medici, as its README ("ACID checks of an account balance") says to make them.
//
// node bench.js URL DATABASE ACCOUNTS SNAPSHOT_S, then one JSON line {"concurrency", "transfers"} on standard input
// per round, answered by one JSON line {"rate", "seconds"} (transfers per second). Every transfer pays 1 from one of
// the accounts to another; neighbouring transfers share no account, so nothing here contends. Journaled majority.
"use strict";

const readline = require("node:readline");
const mongoose = require("mongoose");
const { Book, initModels, mongoTransaction } = require("medici");

const [url, database, accountsText, snapshotText] = process.argv.slice(2);
const ACCOUNTS = Number(accountsText);
const DURABLE = { writeConcern: { w: "majority", j: true }, readConcern: { level: "snapshot" } };
const FUNDS = 1_000_000;
const FUNDING_BATCH = 500;

const book = new Book("bench", { precision: 0, balanceSnapshotSec: Number(snapshotText) });
const wallet = (number) => `Accounts:${number % ACCOUNTS}`;

async function transfer(number) {
  const payer = wallet(2 * number);
  await mongoTransaction(async (session) => {
    await book.entry("transfer").debit(payer, 1).credit(wallet(2 * number + 1), 1).commit({ session });
    const { balance } = await book.balance({ account: payer }, { session });
    if (balance < 0) throw new Error("Not enough balance in wallet.");
    await book.writelockAccounts([payer], { session });
  }, DURABLE);
}

async function fund() {
  for (let first = 0; first < ACCOUNTS; first += FUNDING_BATCH) {
    const last = Math.min(first + FUNDING_BATCH, ACCOUNTS);
    const entry = book.entry("funding").debit("Assets", FUNDS * (last - first));
    for (let number = first; number < last; number += 1) entry.credit(wallet(number), FUNDS);
    await mongoTransaction((session) => entry.commit({ session }), DURABLE);
  }
}

let next = 0;
async function round({ concurrency, transfers }) {
  const last = next + transfers;
  const caller = async () => {
    while (next < last) await transfer(next++);
  };
  const begun = process.hrtime.bigint();
  await Promise.all(Array.from({ length: concurrency }, caller));
  const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
  return { rate: Math.round(transfers / seconds), seconds };
}

async function total() {
  const { balance } = await book.balance({ account: "Accounts" });
  return balance;
}

async function main() {
  await mongoose.connect(url, { dbName: database, ...DURABLE });
  await initModels();
  await fund();
  for await (const line of readline.createInterface({ input: process.stdin })) {
    console.log(JSON.stringify(await round(JSON.parse(line))));
  }
  if ((await total()) !== ACCOUNTS * FUNDS) throw new Error("Medici lost or made money");
  await mongoose.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});

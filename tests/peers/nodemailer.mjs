// Sends one finished mail: node nodemailer.mjs < JSON with `transport` (nodemailer's options), `from`, `to` and `raw` (base64).
import { readFileSync } from 'node:fs';
import nodemailer from 'nodemailer';

const told = JSON.parse(readFileSync(0, 'utf8'));
const transport = nodemailer.createTransport(told.transport);
await transport.sendMail({ envelope: { from: told.from, to: told.to }, raw: Buffer.from(told.raw, 'base64') });
transport.close();

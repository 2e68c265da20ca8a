// What nodemailer's mailparser sees of mails: reads lines of file names from standard input, writes a line of JSON for each.
import { createInterface } from "node:readline";
import { createReadStream } from "node:fs";
import { createHash } from "node:crypto";
import { simpleParser } from "mailparser";

const hash = (content) => createHash("sha256").update(content).digest("hex");

for await (const name of createInterface({ input: process.stdin })) {
  const mail = await simpleParser(createReadStream(name), { skipTextToHtml: true, skipHtmlToText: true, skipImageLinks: true });
  const seen = {
    text: mail.text ?? "",
    html: mail.html || "",
    subject: mail.subject ?? "",
    headers: mail.headerLines.map((each) => each.key),
    attachments: mail.attachments.map((each) => [each.contentType, each.filename ?? "", hash(each.content)]),
  };
  process.stdout.write(JSON.stringify(seen) + "\n");
}

// What mailauth says of the DKIM signatures of a mail: the file and a JSON file of TXT records by name are the arguments.
import { readFileSync } from "node:fs";
import { dkimVerify } from "mailauth/lib/dkim/verify.js";

const [mail, zone] = process.argv.slice(2);
const records = JSON.parse(readFileSync(zone, "utf8"));
const resolver = async (name, type) => {
  const found = type === "TXT" && (records[name] ?? records[name + "."]);
  if (!found) throw Object.assign(new Error("not found"), { code: "ENOTFOUND" });
  return [[found]];
};
const { results } = await dkimVerify(readFileSync(mail), { resolver });
process.stdout.write(JSON.stringify(results.map((each) => [each.signingDomain, each.selector, each.status.result])) + "\n");

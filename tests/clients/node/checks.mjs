// The npm package `openai`, unchanged but for its base URL. Prints one JSON object: what each check got.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, url, key] = process.argv.slice(2);
const { default: OpenAI, toFile } = await import(
  pathToFileURL(createRequire(`${folder}/`).resolve("openai")).href
);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: "What now?" }];
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
const got = {};

for (const server of ["openai", "anthropic", "gemini"]) {
  const one = (got[server] = {});
  const reply = await client.chat.completions.create({ model: `${server}-text`, messages });
  one.chat = [reply.choices[0].message.content, reply.usage.total_tokens];
  one.streamed = "";
  for await (const chunk of await client.chat.completions.create({
    model: `${server}-text`, messages, stream: true,
  })) one.streamed += chunk.choices[0]?.delta?.content ?? "";
  const called = await client.chat.completions.create({ model: `${server}-tools`, messages, tools });
  one.tools = called.choices[0].message.tool_calls.map((call) => JSON.parse(call.function.arguments).city);
  const stream = client.chat.completions.stream({ model: `${server}-tools`, messages, tools });
  const final = await stream.finalChatCompletion();
  one.streamedTools = final.choices[0].message.tool_calls.map((call) => JSON.parse(call.function.arguments).city);
  const response = await client.responses.create({ model: `${server}-text`, input: "What now?" });
  one.responses = response.output_text;
  one.streamedResponses = "";
  for await (const event of await client.responses.create({
    model: `${server}-text`, input: "What now?", stream: true,
  })) if (event.type === "response.output_text.delta") one.streamedResponses += event.delta;
  try {
    await client.chat.completions.create({ model: `${server}-limit`, messages });
  } catch (error) {
    one.error = [error.constructor.name, error.status, error.headers.get("retry-after")];
  }
}
const embedded = await client.embeddings.create({ model: "openai-any", input: ["a", "b"] });
got.embeddings = embedded.data.map((row) => Array.from(row.embedding));
got.models = (await client.models.list()).data.some((model) => model.id === "openai-text");
const file = await client.files.create({ file: await toFile(Buffer.from("{}"), "in.jsonl"), purpose: "batch" });
got.file = await (await client.files.content(file.id)).text();
const batch = await client.batches.create({
  input_file_id: file.id, endpoint: "/v1/embeddings", completion_window: "24h",
});
got.batch = batch.status;
console.log(JSON.stringify(got));

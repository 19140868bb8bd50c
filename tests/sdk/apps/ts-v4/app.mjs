import * as sdk from "inngest";
import { serve } from "inngest/node";
import { start } from "./common/app.mjs";

start(sdk, {
  id: "ts4",
  createFunction: (client, options, trigger, handler) =>
    client.createFunction({ ...options, triggers: [trigger] }, handler),
  race: (ctx, branches) => ctx.group.parallel({ mode: "race" }, branches),
  variants: {
    sequential: {
      "sequential-uncheckpointed": { checkpointing: false },
      "sequential-buffered": { checkpointing: { bufferedSteps: 10 } },
    },
    parallel: { "parallel-unoptimised": { optimizeParallelism: false } },
  },
  serve,
  streaming: true,
});

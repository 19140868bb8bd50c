import * as sdk from "inngest";
import { serve } from "inngest/node";
import { start } from "./common/app.mjs";

start(sdk, {
  id: "ts3",
  createFunction: (client, options, trigger, handler) => client.createFunction(options, trigger, handler),
  race: (ctx, branches) => branches(),
  variants: {
    sequential: { "sequential-checkpointed": { checkpointing: true } },
    parallel: { "parallel-optimised": { optimizeParallelism: true } },
  },
  serve,
  streaming: "force",
});

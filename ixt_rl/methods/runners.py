"""Where the runners of stages are; they are looked up when a run starts."""

ONLINE = "ixt_rl.run.stages.online:run"
DOCUMENTS = "ixt_rl.run.stages.documents:run"

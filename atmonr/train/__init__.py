"""How anything is learned: one loop for every task, its checkpoints, its log and its orderly end."""

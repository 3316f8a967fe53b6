#!/bin/bash
# Agents of a W&B sweep, each on one GPU and each for several runs, with the id that `wandb sweep` printed:
#   sbatch slurm/sweep.sh ENTITY/PROJECT/SWEEP
#SBATCH --job-name=sweep
#SBATCH --array=0-3              # so many agents
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --no-requeue             # an agent that starts again is given another run
#SBATCH --output=slurm-%x-%A_%a.out

srun --cpus-per-task="$SLURM_CPUS_PER_TASK" wandb agent --count 5 "$1"
